"""The application of Celery's tests with its import changed: their tasks on our app. Workers are started with it."""

from t.integration import tasks

from cgk_tasks import app

app.conf.result_extended = True
app.register_task(tasks.ClassBasedAutoRetryTask())

__all__ = ["app"]
