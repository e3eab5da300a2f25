"""Results as they are stored: a generator is the list of its items, and its work is the job's."""

import pytest

from cgk_tasks.errors import PermanentError
from cgk_tasks.runs.codec import MAX_RESULT_BYTES, encode_result


def test_a_generator_is_stored_as_the_list_of_its_items():
    assert encode_result(number for number in range(3)) == ([0, 1, 2], "[0,1,2]")


def test_a_generator_of_too_many_items_does_its_work_to_the_end_and_is_refused():
    done = []
    with pytest.raises(PermanentError, match="more than 131072") as refused:
        encode_result(done.append(number) for number in range(MAX_RESULT_BYTES))
    assert (refused.value.code, len(done)) == ("INVALID_RESULT", MAX_RESULT_BYTES)
