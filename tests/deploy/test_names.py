"""What the files in deploy/ name is there, in this version, and no secret is among it."""

import re

import pytest
import yaml

from cgk_tasks.monitoring.metric_names import BY_NAME
from tests.deploy.files import CHART, DEPLOY, FILES, VERSION, secret_variables, variables
from tests.docs.pages import ROOT, name_of

PAGES = sorted((ROOT / "docs/how-to").glob("*.md"))
_VARIABLE = re.compile(r"\b(?:CGK|INNGEST|TRIGGER)_[A-Z][A-Z0-9_]*\b")
_LOGIN = re.compile(r"\b\w+(?:\+\w+)?://[^\s:/@\"']*:([^\s@\"']+)@")


@pytest.mark.parametrize("file", [*FILES, *PAGES], ids=name_of)
def test_a_variable_that_is_named_is_one_that_is_read(file):
    named = set(_VARIABLE.findall(file.read_text()))
    others = {"CGK_TRACEBACK"}  # read by the command line itself
    assert {name for name in named - variables() - others if not name.endswith("_")} == set()


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_no_url_has_a_password_in_it(file):
    shown = {"password", "..."}
    found = {match[1] for match in _LOGIN.finditer(file.read_text())}
    assert {word for word in found if not word.startswith("${")} <= shown


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_no_file_has_a_private_key_or_a_long_random_text(file):
    text = file.read_text()
    assert "PRIVATE KEY" not in text
    words = re.findall(r"\b[A-Za-z0-9_]{32,}\b", text)
    assert [word for word in words if re.search(r"\d", word) and re.search(r"[a-z]", word) and "_" not in word] == []


@pytest.mark.parametrize("file", [path for path in FILES if path.suffix in {".yml", ".yaml"}], ids=name_of)
def test_a_file_of_yaml_is_read(file):
    if not file.is_relative_to(CHART / "templates"):  # those are texts that become YAML
        assert list(yaml.safe_load_all(file.read_text()))


def test_the_versions_that_are_named_are_this_one():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    containers = "".join(path.read_text() for path in (DEPLOY / "container").iterdir())
    assert (chart["version"], chart["appVersion"]) == (VERSION, VERSION)
    assert set(re.findall(r"cgk-tasks:(\S+)", containers)) == {VERSION}
    assert re.findall(r'image\.version="([^"]+)"', containers) == [VERSION]


def test_the_metric_by_which_workers_are_added_is_one_of_the_exporters():
    text = (CHART / "templates/workers.yaml").read_text()
    named = re.findall(r"\b(cgk_\w+)\{([^}]*)", text)
    assert [name for name, _ in named] == ["cgk_waiting_oldest_seconds"]
    assert set(re.findall(r"(\w+)=~?", named[0][1])) == set(BY_NAME["cgk_waiting_oldest_seconds"].labels) - {"le"}


def test_the_chart_knows_every_setting_that_is_a_secret():
    helpers = (CHART / "templates/_helpers.tpl").read_text()
    listed = re.search(r'define "cgk.secretSettings" -\}\}\n\[(.*)\]', helpers)
    assert listed is not None
    known = set(re.findall(r'"(\w+)"', listed[1]))
    assert known == {name for name in secret_variables() if name in variables()}
