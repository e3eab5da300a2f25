"""A Chromium without a window, for tests of the pages. `make pictures` has them take the pictures of the docs."""

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


def are_wanted():
    """Whether pictures are taken for the docs."""
    return bool(os.environ.get("SCREENSHOTS"))


class Pictures:
    """`picture(page, "runs")` takes a picture of what is seen, or of one element. For the docs into docs/images, once
    light and once dark; else into a folder of the test, as it is.
    """

    def __init__(self, otherwise):
        self.folder = ROOT / "docs/images" if are_wanted() else otherwise

    def __call__(self, page, name, of=None):
        if not are_wanted():
            self._take(page, name, of)
            return
        for scheme, suffix in (("dark", "-dark"), ("light", "")):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # else colours are on their way
            self._take(page, name + suffix, of)

    def _take(self, page, name, of):
        file = self.folder / f"{name}.png"
        (page.locator(of) if of else page).screenshot(path=file)
        assert file.stat().st_size > 5_000
