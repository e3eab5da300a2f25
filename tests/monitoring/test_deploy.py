"""The files in `deploy/` fit the metrics that there are."""

import json
import re

import pytest
import yaml

from cgk_tasks.monitoring.metric_names import BY_NAME, METRICS
from tests.docs.pages import ROOT

DASHBOARD = json.loads((ROOT / "deploy/grafana/cgk-tasks.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
PROMETHEUS = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
RULES = [
    rule
    for group in yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]

EXPRESSIONS = [
    *(pytest.param(target["expr"], id=panel["title"]) for panel in PANELS for target in panel["targets"]),
    *(pytest.param(rule["expr"], id=rule["alert"]) for rule in RULES),
]  # fmt: skip
_SELECTOR = re.compile(r"\b(cgk_\w+)\b(?:\{([^}]*)\})?")
_LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_BY = re.compile(r"\bby \(([^)]*)\)")


def spec_of(name):
    spec = BY_NAME.get(name)
    if spec is None:
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        spec = BY_NAME.get(base)
        assert spec is not None, f"there is no metric {name}"
        assert spec.kind == "histogram", f"{base} is no histogram"
    return spec


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_uses_metrics_and_labels_that_there_are(expression):
    found = _SELECTOR.findall(expression)
    assert found
    known = {"le", "instance"}
    for name, labels in found:
        own = set(spec_of(name).labels)
        known |= own
        assert set(_LABEL.findall(labels)) <= own
    assert {label.strip() for labels in _BY.findall(expression) for label in labels.split(",")} <= known


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_counter_is_asked_for_its_rate(expression):
    for name, _labels in _SELECTOR.findall(expression):
        if spec_of(name).kind == "counter" or name.endswith(("_bucket", "_sum", "_count")):
            assert re.search(rf"(rate|increase)\({name}(\{{[^}}]*\}})?\[", expression)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_the_brackets_of_an_expression_are_balanced(expression):
    for opening, closing in ("()", "[]", "{}"):
        assert expression.count(opening) == expression.count(closing)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_what_is_wrong_what_to_do_and_how_bad_it_is(rule):
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["description"]
    assert set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))) <= {
        label for name, _ in _SELECTOR.findall(rule["expr"]) for label in spec_of(name).labels
    }


def test_every_metric_has_a_place_on_the_dashboard():
    shown = {
        spec_of(name).name for panel in PANELS for one in panel["targets"] for name, _ in _SELECTOR.findall(one["expr"])
    }
    assert {spec.name for spec in METRICS} == shown


def test_no_two_panels_lie_on_each_other():
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_the_scrape_configuration_reads_the_rules_the_exporter_workers_and_gateways():
    assert PROMETHEUS["rule_files"] == ["alerts.yml"]
    assert {job["job_name"] for job in PROMETHEUS["scrape_configs"]} == {"cgk-exporter", "cgk-workers", "cgk-gateways"}
