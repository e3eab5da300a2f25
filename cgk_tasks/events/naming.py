"""One event, three names: `survey.lowNps` on the wire, `SurveyLowNps` its class, `survey_low_nps` its task."""

import re

_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def class_name(event: str) -> str:
    """The name of the event's model: `class_name("ab.testCreated") == "AbTestCreated"`."""
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[._]", event))


def task_attribute(event: str) -> str:
    """The event's name as a Python identifier: `task_attribute("ab.testCreated") == "ab_test_created"`."""
    return _WORD_START.sub("_", event).replace(".", "_").lower()
