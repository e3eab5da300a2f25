"""Templates include one another, so what one binds is there in all of a page."""

import ast

import pytest
from tornado.template import DictLoader, Loader

from cgk_tasks.dashboard.application import TEMPLATES

NAMES = sorted(path.name for path in TEMPLATES.glob("*.html"))


class _Reads(ast.NodeVisitor):
    """The names of loops that are read where no such loop is around, and none has set them."""

    def __init__(self, of_loops):
        self.of_loops, self.around, self.are_set, self.astray = of_loops, [], set(), set()

    def visit_For(self, node):
        self.visit(node.iter)
        self.around.append(_stored(node.target))
        for statement in node.body:
            self.visit(statement)
        self.around.pop()

    def visit_GeneratorExp(self, node):
        self.around.append(set().union(*(_stored(one.target) for one in node.generators)))
        self.generic_visit(node)
        self.around.pop()

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp

    def visit_Assign(self, node):
        self.visit(node.value)
        self.are_set |= _stored(node)

    def visit_Name(self, node):
        if node.id in self.of_loops - self.are_set and not any(node.id in names for names in self.around):
            self.astray.add(node.id)


def _stored(node):
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}


def astray(template):
    (page,) = (node for node in ast.parse(template.code).body if isinstance(node, ast.FunctionDef))
    loops = [_stored(node.target) for node in ast.walk(page) if isinstance(node, ast.For)]
    reads = _Reads(set().union(*loops))
    reads.visit(page)
    return reads.astray


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_a_loop_is_read_in_that_loop_alone(name):
    assert astray(Loader(str(TEMPLATES)).load(name)) == set()


def test_one_that_a_loop_of_an_included_template_overwrites_is_found():
    loader = DictLoader({
        "page": '{% include "bar" %}<h1>{{ name }}</h1>',
        "bar": "{% for name in pages %}{{ name }}{% end %}",
    })  # fmt: skip
    assert astray(loader.load("page")) == {"name"}


def test_the_bar_leaves_a_pages_names_alone():
    """It is a module, with names of its own."""
    page = Loader(str(TEMPLATES)).load("page.html").code
    assert "header.html" in page
    assert "in pages" not in page
