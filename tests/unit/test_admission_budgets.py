"""What the benchmark of admission counts as kept."""

import importlib
import sys

import pytest

from tests.docs.pages import ROOT


@pytest.fixture(scope="module")
def admission():
    before = list(sys.path)
    sys.path.append(str(ROOT / "benchmarks"))
    try:
        return importlib.import_module("admission")
    finally:
        sys.path[:] = before


@pytest.mark.parametrize(
    ("value", "limits", "is_kept"),
    [
        (5_000.0, {"at_least": 5_000}, True),
        (4_999.0, {"at_least": 5_000}, False),
        (1.0, {"at_most": 1.0}, True),
        (1.1, {"at_most": 1.0}, False),
        (1.1, {}, None),
        (84.0, {"beside": 100.0, "at_least": 0.85}, False),
        (85.0, {"beside": 100.0, "at_least": 0.85}, True),
        (116.0, {"beside": 100.0, "at_most": 1.15}, False),
        (116.0, {"beside": 100.0, "at_most": 1.15, "slack": 2.0}, True),
    ],
)
def test_a_budget_is_kept_as_far_as_its_figure_goes_alone_or_beside_another(admission, value, limits, is_kept):
    assert admission.Budget("it", value, "ms", **limits).is_kept is is_kept


def test_a_line_has_what_a_figure_is_compared_with_and_what_it_may_be(admission):
    line = admission.Budget("it", 90.0, "/s", beside=100.0, at_least=0.85).row()
    assert line == ["it", "100/s", "90/s", "0.90 ×", "≥ 85/s", "yes"]  # noqa: RUF001
