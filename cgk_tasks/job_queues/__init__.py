"""Queues of jobs that have a name instead of an event: `create_job_queue` sends them, `process_jobs` runs them.

The older interface, over the same runs, states, tenants and workers.
"""

from cgk_tasks.job_queues.processing import JobProcessor, process_jobs
from cgk_tasks.job_queues.queue import JobQueue, QueuedJob, create_job_id, create_job_queue

__all__ = ["JobProcessor", "JobQueue", "QueuedJob", "create_job_id", "create_job_queue", "process_jobs"]
