"""An application's own job for an event that has a built-in one."""

from cgk_tasks import define_job


@define_job("own-cleanup", event="webhook.cleanup")
def clean_up(ctx):
    return "the application's"
