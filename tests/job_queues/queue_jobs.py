"""Handlers that a Celery worker imports."""

from cgk_tasks import JobContext, NamedJob, create_job_queue, process_jobs


def elsewhere(ctx: JobContext[NamedJob]) -> str:
    return f"elsewhere {ctx.payload.data['n']}"


process_jobs(create_job_queue("emails"), {"elsewhere": elsewhere})
