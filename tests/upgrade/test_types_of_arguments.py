"""What an earlier release makes of a plain task's arguments with their types: nothing is lost on the way through it."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace
from uuid import UUID

import pytest

from cgk_tasks.celery_tasks.arguments import arguments_of, payload_of

pytestmark = pytest.mark.slow

ARGUMENTS = [datetime(2026, 3, 1, 9, 30, tzinfo=UTC), Decimal("59.970"), UUID(int=7), b"\xff", 1, "text"]

READ_AND_SENT_ON = """
import sys
from cgk_tasks.runs.codec import decode, encode
stored = decode(sys.stdin.read())
print(encode({"args": stored["args"], "kwargs": stored["kwargs"]}))
"""


@pytest.fixture
def sent_on(release):
    """The payload of a task that the earlier release sends, with the arguments that it was given by this one."""
    env = {**os.environ, "PYTHONPATH": str(release.code)}
    command = [sys.executable, "-c", READ_AND_SENT_ON]
    payload = payload_of(ARGUMENTS, {"named": ARGUMENTS[1]})
    return subprocess.run(command, input=payload, capture_output=True, text=True, check=True, env=env).stdout


def test_arguments_that_an_earlier_release_hands_on_have_their_types_again(sent_on):
    assert arguments_of(SimpleNamespace(payload=sent_on)) == (ARGUMENTS, {"named": ARGUMENTS[1]})
