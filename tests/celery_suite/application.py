"""The application of Celery's tests with its import changed: their tasks on our app. Workers are started with it."""

from celery.contrib.testing.app import DEFAULT_TEST_CONFIG
from t.integration import tasks

from cgk_tasks import app

OURS = ("broker_url", "result_backend")

app.conf.update({name: value for name, value in DEFAULT_TEST_CONFIG.items() if name not in OURS})
app.conf.result_extended = True
app.register_task(tasks.ClassBasedAutoRetryTask())

__all__ = ["app"]
