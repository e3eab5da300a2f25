"""JSON data as a tree that people fold."""

import json
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from cgk_tasks.dashboard import value_tree
from cgk_tasks.dashboard.value_tree import MOST_ITEMS, OPEN_LEVELS, tree

NASTY = """<script>alert("1")</script>&amp;'"><b onclick="x">"""


class Read(HTMLParser):
    """Elements that are open must be closed, and what stands in the leaves is kept."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts, self.attributes = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        self.tags.append(tag)
        self.attributes.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1], data))

    def of(self, tag):
        return [text for where, text in self.texts if where == tag]


def read(data, **options):
    return Read(tree(data, name="payload", **options))


def folds(found):
    return [attributes for tag, attributes in found.attributes if tag == "details"]


def test_objects_and_lists_fold_and_say_how_much_they_have():
    found = read({"orderId": "o-1", "items": [1, 2, 3]}, all_address="/all")
    assert [text for text in found.of("small") if text.strip()] == ["2 fields", "3 items"]
    assert len(folds(found)) == 2


def test_values_stand_as_json_writes_them():
    found = read({"a": "x", "b": 1.50, "c": None, "d": True, "e": [], "f": 12345678901234567890})
    assert found.of("code") == ['"x"', "1.5", "null", "true", "[]", "12345678901234567890"]


def test_the_first_levels_are_open_and_the_others_are_not():
    found = folds(read({"a": {"b": {"c": {"d": 1}}}}))
    assert ["open" in one for one in found] == [True] * OPEN_LEVELS + [False] * 2


def test_each_fold_has_a_name_of_its_own():
    names = [one["id"] for one in folds(read([[1], [2], {"a": "y" * 500}]))]
    assert len(names) == len(set(names)) == 5


def test_a_big_list_is_cut_and_leads_to_all_of_it():
    data = list(range(MOST_ITEMS + 3))
    found = read(data, all_address="/runs/x?all=payload")
    assert found.of("a") == ["3 more"]
    assert "52" not in found.of("code")
    assert ("a", {"href": "/runs/x?all=payload"}) in found.attributes


def test_where_all_is_asked_for_nothing_is_cut():
    found = read(list(range(MOST_ITEMS + 3)))
    assert (found.of("a"), found.of("code")[-1]) == ([], "52")


def test_a_tree_of_very_much_says_that_the_text_has_the_rest(monkeypatch):
    monkeypatch.setattr(value_tree, "MOST_OF_ALL", 10)
    found = read(list(range(20)))
    assert [text for text in found.of("li") if text.strip()] == ["11 more: the text as JSON has them."]


def test_a_long_text_is_folded_and_is_there_whole():
    text = "y" * 1_000
    assert json.dumps(text) in read({"a": text}).of("code")


def test_data_that_lies_very_deep_is_a_text():
    data = 1
    for _ in range(100):
        data = [data]
    assert read(data).of("code")[-1].startswith("[[[")


def test_nothing_of_the_data_is_markup():
    found = read({NASTY: [NASTY, {NASTY: NASTY}]})
    assert set(found.tags) <= {"ul", "li", "details", "summary", "span", "small", "code"}
    assert json.dumps(NASTY) in found.of("code")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=30,
)


@given(JSON)
def test_any_json_is_drawn_with_all_its_values(data):
    leaves = [text for text in _leaves(data) if len(text) <= 400]
    assert sorted(leaves) == sorted(read(data).of("code"))


def _leaves(data):
    if isinstance(data, dict) and data:
        return [leaf for value in data.values() for leaf in _leaves(value)]
    if isinstance(data, list) and data:
        return [leaf for value in data for leaf in _leaves(value)]
    return [json.dumps(data, ensure_ascii=False)]
