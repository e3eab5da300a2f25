"""A program that owns private servers: it starts them, reports on stdout, and ends when told to on stdin."""

import json
import os
import signal
import sys
import threading
from pathlib import Path

from cgk_tasks import embedded
from cgk_tasks.errors import EmbeddedError

folder, how = Path(sys.argv[1]), sys.argv[2:]


def start() -> embedded.Services:
    if "temporary" in how:
        return embedded.temporary()
    return embedded.start(folder, redis="postgres-only" not in how, postgres="redis-only" not in how)


def report(services: embedded.Services) -> None:
    watchdog = services._watchdog.pid
    answer = {"folder": str(services.folder), "watchdog": watchdog, "uid": os.geteuid()}
    if "redis-only" not in how:
        answer |= {"database_url": services.database_url, "postgres_pid": services.postgres.pid}
    if "postgres-only" not in how:
        answer |= {"broker_url": services.broker_url, "redis_pid": services.redis.pid}
    print(json.dumps(answer), flush=True)


def start_in_a_thread() -> embedded.Services:
    started = []
    thread = threading.Thread(target=lambda: started.append(start()))
    thread.start()
    thread.join()
    return started[0]


try:
    services = start_in_a_thread() if "thread" in how else start()
except EmbeddedError as error:
    print(json.dumps({"error": str(error)}), flush=True)
    sys.exit(1)
report(services)
if "block" in how:  # a program that leaves its with block, and not by atexit
    with services:
        sys.stdin.readline()
    os.kill(os.getpid(), signal.SIGKILL)
sys.stdin.readline()
