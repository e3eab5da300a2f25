"""Plain Celery on RabbitMQ as its documentation says: a quorum queue, and publishes that the broker confirms."""

from __future__ import annotations

import os

from plain_app import make_app
from shared import PLAIN_QUEUE, RABBITMQ_URL

app = make_app(PLAIN_QUEUE, broker_url=os.environ[RABBITMQ_URL])
app.conf.update(task_default_queue_type="quorum", broker_transport_options={"confirm_publish": True})
