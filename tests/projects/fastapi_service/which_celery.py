"""The one module in which the service on plain Celery and the service on cgk_tasks differ."""

import os

if os.environ.get("SERVICE_RUNS_ON") == "cgk_tasks":
    from cgk_tasks import Celery, tenant_context
else:
    from contextlib import nullcontext as tenant_context

    from celery import Celery

__all__ = ["Celery", "tenant_context"]
