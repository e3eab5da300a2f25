"""Celery's smoke tests: which of them run here, and which of ours has the scenario of the others."""

TESTS = (
    "test_canvas", "test_tasks", "test_revoke", "test_query_task", "test_thread_safe", "test_signals", "test_control",
    "failover/test_worker_failover",
)  # fmt: skip
"""They need a broker, a result backend and workers, which are processes here."""

ELSEWHERE = {
    "test_worker, test_worker_shutdown_acks: they stop workers in all ways, and read their logs": (
        "tests/faults/test_stops.py",
        "tests/faults/test_workers.py",
    ),
    "test_consumer, test_worker_heartbeats: they restart the broker, and watch its connections": (
        "tests/faults/test_redis.py",
        "tests/faults/test_brokers.py",
        "tests/faults/test_cut_off_workers.py",
    ),
    "failover/test_broker_failover: a second broker; here the runs wait in PostgreSQL for the one to come back": (
        "tests/integration/test_sending_without_a_broker.py",
        "tests/faults/test_brokers.py",
    ),
    "stamping, test_revoked_sync, test_gossip: what releases tell each other; here it is on record": (
        "tests/integration/test_revoking.py",
        "tests/upgrade/test_migrations.py",
    ),
    "test_dedup_chain_dispatch: a message that comes again after its task": (
        "tests/integration/test_claims_after_a_crash.py",
        "tests/integration/test_packets.py",
    ),
    "test_beat_shutdown, test_beat_remote_control": ("tests/schedules/test_beat.py",),
    "quorum_queues, test_chord_headers_exchange, test_task_queue_*, test_callback_publish_retry: queues of RabbitMQ": (
        "tests/faults/test_brokers.py",
        "tests/integration/test_sends_of_celery.py",
    ),
    "test_autoscale, test_concurrency_auto: the size of a pool in a container of a given size": (
        "tests/integration/test_pools.py",
    ),
    "test_memcached_backend, test_rpc_backend, test_redis_backend_*, test_disabled_backend: other result backends": (
        "tests/integration/test_task_states.py",
    ),
}
"""The others need containers. Here are the files with their scenarios, as far as these apply."""
