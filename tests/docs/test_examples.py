"""Pages show examples as they are in their files, which are tested: modules, tests, and a page for browsers."""

import pytest

from tests.docs.pages import ROOT, blocks

PAGE = ROOT / "docs/how-to/workflows-by-example.md"
EXAMPLES = ROOT / "tests/examples"
BLOCKS = list(blocks(PAGE, "python"))
SHOWN = {block.saved_as: block.text for block in BLOCKS if block.saved_as}


def test_each_example_is_shown_whole():
    modules = {file.name: file.read_text(encoding="utf-8") for file in EXAMPLES.glob("*.py")}
    assert {name: text for name, text in modules.items() if not name.startswith(("test_", "conftest"))} == SHOWN


@pytest.mark.parametrize("block", [block for block in BLOCKS if not block.saved_as], ids=str)
def test_a_test_that_is_shown_is_one_of_those_of_the_examples(block):
    files = [file.name for file in EXAMPLES.glob("test_*.py") if block.text in file.read_text(encoding="utf-8")]
    assert len(files) == 1


def test_the_page_that_shows_progress_is_shown_whole():
    (shown,) = blocks(ROOT / "docs/how-to/show-progress-in-a-browser.md", "html")
    assert shown.text == (ROOT / "docs/examples/progress-bar.html").read_text(encoding="utf-8")
