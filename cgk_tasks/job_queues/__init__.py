"""Queues of jobs that have a name instead of an event: `create_job_queue` sends them, `process_jobs` runs them.

The older interface, over the same runs, states, tenants and workers.
"""
