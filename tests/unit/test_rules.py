"""Rules of jobs: what they accept, and which go together."""

from datetime import timedelta

import pytest

from cgk_tasks.admission.rules import AtOnce, Throttle, check_rules, rule_name
from cgk_tasks.errors import ConfigurationError


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: AtOnce(0), "AtOnce: limit"),
        (lambda: AtOnce(-1), "AtOnce: limit"),
        (lambda: AtOnce(2.0), "AtOnce: limit"),
        (lambda: AtOnce(True), "AtOnce: limit"),
        (lambda: AtOnce(10**12), "AtOnce: limit"),
        (lambda: AtOnce(5, lend_to=4), "lend_to must be at least the limit (5)"),
        (lambda: AtOnce(5, per="job"), 'per must be "tenant" or "all"'),
        (lambda: AtOnce(5, key=""), "key must be the name of a field"),
        (lambda: AtOnce(5, key=7), "key must be the name of a field"),
        (lambda: Throttle(0, every=1), "Throttle: limit"),
        (lambda: Throttle(5, every=0), "Throttle: every"),
        (lambda: Throttle(5, every=float("nan")), "Throttle: every"),
        (lambda: Throttle(5, every=timedelta(days=40_000)), "Throttle: every"),
        (lambda: Throttle(5, every="60"), "Throttle: every"),
        (lambda: Throttle(5, every=60, burst=0), "Throttle: burst"),
    ],
)
def test_a_value_out_of_range_is_refused_where_it_is_written(make, named):
    with pytest.raises(ConfigurationError) as refused:
        make()
    assert named in str(refused.value)


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ([AtOnce(5), AtOnce(6)], "two rules of the kind AtOnce"),
        ([AtOnce(5, key="shopId"), AtOnce(6, key="shopId")], "two rules of the kind AtOnce"),
        ([AtOnce(5, key="shop_id")], "no such field. Use a field as the payload has it: shopId, tenantId."),
        ([5], "5 is no limit. Use AtOnce"),
    ],
)
def test_rules_that_cannot_go_together_are_refused_with_the_job(rules, said):
    with pytest.raises(ConfigurationError) as refused:
        check_rules("sync", rules, ["shopId", "tenantId"])
    assert "Job 'sync'" in str(refused.value)
    assert said in str(refused.value)


def test_rules_of_one_kind_for_different_runs_go_together():
    check_rules("sync", [AtOnce(5), AtOnce(50, per="all"), AtOnce(1, key="shopId"), Throttle(5, every=60)], ["shopId"])


def test_a_key_cannot_be_checked_where_the_fields_are_not_known():
    check_rules("sync", [AtOnce(5, key="anything")])


def test_a_rule_keeps_its_name_when_its_numbers_change():
    assert rule_name("sync", AtOnce(5, key="shopId")) == rule_name("sync", AtOnce(9, lend_to=20, key="shopId"))


def test_rules_for_different_runs_have_different_names():
    rules = [AtOnce(5), AtOnce(5, per="all"), AtOnce(5, key="shopId"), Throttle(5, every=1)]
    assert len({rule_name("sync", rule) for rule in rules}) == len(rules)


def test_a_throttle_may_always_start_at_once_what_its_rate_gives_in_a_tenth_of_a_second():
    bursts = [Throttle(100, every=1).burst_at_least, Throttle(5, every=60).burst_at_least]
    assert (bursts, Throttle(100, every=1, burst=30).burst_at_least) == ([11, 1], 30)


def test_durations_may_be_timedeltas():
    assert Throttle(5, every=timedelta(minutes=1)).period == Throttle(5, every=60).period == 60.0
