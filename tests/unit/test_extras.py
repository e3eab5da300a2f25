"""Which packages come with which extra, and what is said where one is missing."""

import re
import tomllib
from importlib.util import find_spec

import pytest

from cgk_tasks import extras
from cgk_tasks.errors import ConfigurationError
from tests.docs.pages import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def distributions(requirements):
    return {re.match(r"[\w-]+", one)[0] for one in requirements}


@pytest.mark.parametrize("extra", extras.EXTRAS)
def test_an_extra_brings_the_packages_that_its_modules_come_from(extra):
    assert set(extras.EXTRAS[extra].values()) <= distributions(PROJECT["optional-dependencies"][extra])


def test_what_belongs_to_an_extra_is_not_installed_with_the_package_alone():
    belong = {name for modules in extras.EXTRAS.values() for name in modules.values()}
    assert belong & distributions(PROJECT["dependencies"]) == set()


@pytest.mark.parametrize("extra", ["all", "embedded"])
def test_the_collecting_extras_have_every_part(extra):
    (together,) = [one for one in PROJECT["optional-dependencies"][extra] if one.startswith("cgk-tasks[")]
    assert set(together[len("cgk-tasks[") : -1].split(",")) >= set(extras.EXTRAS) - {"embedded"}


def test_a_missing_extra_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "flower" else find_spec(name))
    with pytest.raises(ConfigurationError, match=r"^The dashboard needs flower: pip install 'cgk-tasks\[dashboard\]'$"):
        extras.require_extra.__wrapped__("dashboard", "The dashboard")


def test_an_extra_that_is_there_passes():
    for extra in extras.EXTRAS:
        extras.require_extra(extra, "The test")


def test_a_failed_import_of_an_extras_module_is_explained():
    explained = extras.explain_missing(ModuleNotFoundError("No module named 'httpx'", name="httpx"))
    assert str(explained) == "This needs httpx: pip install 'cgk-tasks[webhooks]'"


@pytest.mark.parametrize("name", ["shop", "flower.no_such_part", "sqlalchemy.dialects.none"])
def test_a_failed_import_of_something_else_is_not_explained_away(name):
    assert extras.explain_missing(ModuleNotFoundError(f"No module named {name!r}", name=name)) is None
