"""A kept traceback taken apart: the application's own frames come first, and no line of the text is lost."""

import json
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgk_tasks.dashboard.tracebacks import is_of_library, parts_of, traceback_of
from cgk_tasks.jobs.classification import classify_error
from cgk_tasks.jobs.error_record import error_record

CHAINED = """Traceback (most recent call last):
  File "/venv/lib/python3.12/site-packages/cgk_tasks/worker/attempt.py", line 87, in timed
    value = job.handler(ctx)
            ^^^^^^^^^^^^^^^^
  File "/srv/shop/jobs/payouts.py", line 41, in book_payout
    account = ledger.account_of(
        creator,
    )
  File "/srv/shop/ledger.py", line 112, in account_of
    raise KeyError(creator)
KeyError: 'cr-3'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/usr/lib/python3.12/json/decoder.py", line 355, in raw_decode
    raise JSONDecodeError(msg) from None
  File "/srv/shop/jobs/payouts.py", line 44, in book_payout
    raise PayoutError from exc
shop.errors.PayoutError: no account
for cr-3
"""


def test_the_own_frames_of_each_exception_are_found_with_what_it_said():
    first, second = traceback_of(CHAINED).raised
    assert [(frame.file, frame.line, frame.function) for frame in first.own] == [
        ("/srv/shop/jobs/payouts.py", 41, "book_payout"), ("/srv/shop/ledger.py", 112, "account_of"),
    ]  # fmt: skip
    assert (first.said, second.said) == ("KeyError: 'cr-3'", "shop.errors.PayoutError: no account")


def test_a_frame_has_its_first_line_of_code():
    frame = traceback_of(CHAINED).raised[0].own[0]
    assert (frame.source, frame.short_file) == ("account = ledger.account_of(", "shop/jobs/payouts.py")


def test_frames_of_libraries_are_counted_and_stand_in_the_text_alone():
    found = traceback_of(CHAINED)
    assert (found.libraries, found.text) == (2, CHAINED)
    assert all(not is_of_library(frame.file) for raised in found.raised for frame in raised.own)


@pytest.mark.parametrize(
    "file",
    [
        "/venv/lib/python3.12/site-packages/celery/app/trace.py", "/usr/lib/python3/dist-packages/requests/api.py",
        "/usr/lib/python3.11/asyncio/runners.py", "/opt/python/lib64/python3.13t/json/__init__.py",
        "/Library/Frameworks/Python.framework/Versions/3.12/lib/python3.12/abc.py", "<frozen importlib._bootstrap>",
        "<attrs generated init shop.Order>", r"C:\Python311\Lib\json\decoder.py",
        r"C:\venv\Lib\site-packages\celery\app.py", "/home/ada/cgk-tasks/cgk_tasks/worker/attempt.py",
    ],
)  # fmt: skip
def test_files_of_libraries(file):
    assert is_of_library(file)


@pytest.mark.parametrize(
    "file",
    [
        "/srv/shop/jobs.py", "jobs.py", r"C:\shop\jobs.py", "/home/ada/cgk_tasks/shop/jobs.py", "<string>", "<stdin>",
        "/srv/lib/shop.py", "/srv/python/jobs.py",
    ],
)  # fmt: skip
def test_files_of_the_application(file):
    assert not is_of_library(file)


def test_what_an_attempt_keeps_of_an_error_is_understood():
    try:
        [].pop()
    except IndexError as exc:
        text = json.loads(error_record(exc, 1, classify_error(exc)))["traceback"]
    (raised,) = traceback_of(text).raised
    assert (raised.own[0].file, raised.own[0].source, raised.said) == (
        __file__, "[].pop()", "IndexError: pop from empty list",
    )  # fmt: skip


def test_the_members_of_an_exception_group_are_frames_too():
    def fail(text):
        raise ValueError(text)

    found = []
    for text in ("one", "two"):
        try:
            fail(text)
        except ValueError as exc:
            found.append(exc)
    text = "".join(traceback.format_exception(ExceptionGroup("both", found)))
    raised = traceback_of(text).raised
    assert [one.own[-1].source for one in raised] == ["raise ValueError(text)"] * 2
    assert [one.said for one in raised] == ["ValueError: one", "ValueError: two"]


def test_local_variables_that_some_other_program_wrote_are_in_no_own_frame():
    text = 'Traceback (most recent call last):\n  File "shop.py", line 3, in f\n    g(x)\n    x = "secret"\nE: no\n'
    (raised,) = traceback_of(text).raised
    assert "secret" not in repr([(frame.source, frame.function, frame.file) for frame in raised.own])


def test_a_text_whose_beginning_is_not_kept_is_understood():
    cut = CHAINED[CHAINED.index("value = job") :]
    assert len(traceback_of(cut).raised) == 2


def test_a_text_that_is_no_traceback_is_shown_as_it_is():
    assert traceback_of("it went wrong").raised == ()
    assert [part.kind for part in parts_of("it went wrong")] == ["text"]


LINES_OF_IT = CHAINED.split("\n")
LINES = st.lists(
    st.one_of(
        st.text(max_size=40),
        st.sampled_from(LINES_OF_IT),
        st.builds("{}{}".format, st.sampled_from(["  | ", "    + ", "  ", "      | "]), st.sampled_from(LINES_OF_IT)),
    ),
    max_size=40,
)  # fmt: skip


@given(LINES)
def test_no_line_is_lost_or_doubled_whatever_the_text_is(lines):
    text = "\n".join(lines)
    assert "\n".join(line for part in parts_of(text) for line in part.lines) == text


@given(LINES)
def test_whatever_the_text_is_it_can_be_shown(lines):
    found = traceback_of("\n".join(lines))
    assert all(frame.short_file is not None and frame.source is not None for one in found.raised for frame in one.own)
    assert found.text == "\n".join(lines)
