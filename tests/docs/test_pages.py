"""The documentation is whole: links lead somewhere, code compiles, and what it imports exists."""

import ast
import importlib
import re

import pytest

from tests.docs.pages import PAGES, ROOT, blocks, name_of, without_blocks

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE_SPAN = re.compile(r"`[^`\n]*`")

PYTHON = [block for page in PAGES for block in blocks(page, "python")]


def relative_links():
    for page in PAGES:
        for target in _LINK.findall(_CODE_SPAN.sub("``", without_blocks(page))):
            if not target.startswith(("http://", "https://", "mailto:")):
                yield pytest.param(page, target, id=f"{name_of(page)}: {target}")


@pytest.mark.parametrize(("page", "target"), list(relative_links()))
def test_a_relative_link_leads_to_a_file_and_to_a_heading_that_it_has(page, target):
    path, _, anchor = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    assert file.exists()
    assert not anchor or anchor in anchors(file)


def anchors(page):
    """As GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_a_python_example_compiles(block):
    compile(block.text, str(block), "exec")


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_what_a_python_example_imports_of_cgk_tasks_exists(block):
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "cgk_tasks":
            module = importlib.import_module(node.module)
            missing = [alias.name for alias in node.names if alias.name != "*" and not hasattr(module, alias.name)]
            assert not missing, f"{block}: {node.module} has no {missing}"


def test_every_page_is_in_the_index():
    index = (ROOT / "docs/README.md").read_text()
    pages = [page for page in PAGES if page.parent != ROOT and page.name != "README.md"]
    assert [name_of(page) for page in pages if page.relative_to(ROOT / "docs").as_posix() not in index] == []
