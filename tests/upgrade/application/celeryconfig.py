"""The application's own, so that neither side finds that of the repository."""

from cgk_tasks.celeryconfig import *  # noqa: F403 - what one writes to change some of them
