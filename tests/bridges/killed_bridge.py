"""The bridge as a process that dies where it is told to: `python -m tests.bridges.killed_bridge WHERE URL QUEUE`.

WHERE: `after-send`, when a page is committed and not removed; `amid-removal`, when some jobs of it are removed.
"""

import os
import signal
import sys

import redis

from cgk_tasks.bridges import bullmq, moving
from cgk_tasks.client import create_job_client
from tests.support import jobs  # noqa: F401 - defines test.behave


def main():
    where, url, name = sys.argv[1:]
    remove = bullmq.BullMQQueue.remove

    def dying(self, found):
        if where == "amid-removal":
            remove(self, found[: len(found) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    bullmq.BullMQQueue.remove = dying
    queue = bullmq.BullMQQueue(redis.Redis.from_url(url, decode_responses=True), name)
    for _ in moving.move(queue, moving.to_event("test.behave"), create_job_client("celery"), moving.Moved()):
        pass


if __name__ == "__main__":
    main()
