"""The application of Celery's smoke tests, on the side that the environment names, with a test's own settings."""

import importlib
import json
import os

if os.environ["CELERY_SUITE_SIDE"] == "ours":
    from cgk_tasks import app
else:
    from celery import Celery

    app = Celery("smoke", broker=os.environ["TEST_BROKER"], backend=os.environ["TEST_BACKEND"])

app.conf.update(json.loads(os.environ.get("CELERY_SUITE_SETTINGS", "{}")))
app.set_default()
app.set_current()
importlib.import_module("t.smoke.tasks")
importlib.import_module("t.smoke.signals")

__all__ = ["app"]
