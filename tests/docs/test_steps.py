"""The order of the steps of an attempt, as the pages tell it."""

import re

import pytest

from cgk_tasks.worker.attempt import BUILT_IN
from tests.docs.pages import ROOT

STEPS = [step.__name__ for step in BUILT_IN]


@pytest.mark.parametrize(
    ("page", "step"),
    [
        ("docs/explanation/the-way-of-a-run.md", r"^\d\. `(\w+)`"),
        ("docs/how-to/write-middleware.md", r"`(\w+)` →"),
        ("cgk_tasks/worker/attempt.py", r"^    (\w+)  +\w"),
    ],
)
def test_the_steps_are_told_in_the_order_that_the_code_has(page, step):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert re.findall(step, text, re.MULTILINE) == STEPS
