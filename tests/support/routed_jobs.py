"""Jobs that want a queue and a priority of their own. The test process does not import this module."""

import os

from cgk_tasks import define_job


def echo(ctx):
    return ctx.job_id


QUEUE = os.environ.get("TEST_ROUTED_QUEUE", "routed")

define_job("routed-cancelled", event="order.cancelled", queue=QUEUE, priority=8)(echo)
define_job("routed-first", event="order.created", queue=QUEUE)(echo)
define_job("routed-second", event="order.created", priority=2)(echo)
