"""A worker inside the application: its jobs run in threads of the application's own process."""

from cgk_tasks.in_process.worker import EmbeddedWorker, embedded_worker, worker_lifespan

__all__ = ["EmbeddedWorker", "embedded_worker", "worker_lifespan"]
