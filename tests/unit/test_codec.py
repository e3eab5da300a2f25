"""Results as they are stored: a generator is the list of its items, and its work is the job's."""

import json

from cgk_tasks.errors import ResultTooLargeError
from cgk_tasks.events.typed_values import is_left_out
from cgk_tasks.runs import typed_json
from cgk_tasks.runs.codec import encode_result, run_without_result

LIMIT = 1_000


def test_a_generator_is_stored_as_the_list_of_its_items():
    assert encode_result((number for number in range(3)), LIMIT) == ([0, 1, 2], "[0,1,2]")


def test_a_generator_of_too_many_items_does_its_work_to_the_end_and_is_left_out():
    done = []
    value, text = encode_result((done.append(number) for number in range(LIMIT)), LIMIT)
    assert (len(done), is_left_out(json.loads(text))) == (LIMIT, True)
    assert "1000 items" in str(value)


def test_a_result_of_more_bytes_than_the_limit_is_left_out_and_its_value_handed_on():
    given = "é" * (LIMIT // 2)
    value, text = encode_result(given, LIMIT)
    found = typed_json.read(text)
    assert value == given
    assert isinstance(found, ResultTooLargeError)
    assert "it has 1002 bytes, more than 1000" in str(found)


def test_a_result_of_as_many_bytes_as_the_limit_is_kept():
    assert encode_result("x" * (LIMIT - 2), LIMIT)[1] == '"' + "x" * (LIMIT - 2) + '"'


def test_a_generator_whose_result_nobody_wants_does_its_work():
    done = []
    assert run_without_result(done.append(number) for number in range(3)) is None
    assert done == [0, 1, 2]
