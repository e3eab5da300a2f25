"""A Chromium without a window, for tests of the pages. `SCREENSHOTS=1` writes their pictures into docs/images."""

import importlib.util
import os
import shutil

import pytest

from tests.dashboard.dashboard_support import PASSWORDS
from tests.support.workers import ROOT

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HAS_PLAYWRIGHT = importlib.util.find_spec("playwright") is not None
TIMEOUT_MS = 20_000

IN_A_BROWSER = [
    pytest.mark.slow,
    pytest.mark.skipif(not HAS_PLAYWRIGHT, reason="playwright is not installed: pip install playwright"),
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH: apt-get install chromium"),
]


def log_in(page, name):
    """As somebody with a password, on the page's own dashboard."""
    page.goto("/login")
    page.fill("#name", name)
    page.fill("#password", PASSWORDS[name])
    page.press("#password", "Enter")
    page.wait_for_url("**/overview")


def pictures(otherwise):
    """The folder for pictures: that of the docs, if they are wanted."""
    return ROOT / "docs/images" if os.environ.get("SCREENSHOTS") else otherwise
