"""JSON data as a tree that people fold, in HTML that needs no script.

The elements are made by ElementTree, which escapes every name and text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final
from xml.etree.ElementTree import Element, SubElement, tostring

MOST_ITEMS: Final = 50
"""So many of a list or an object are shown, unless all are asked for."""
MOST_IN_ALL: Final = 2_000
MOST_OF_ALL: Final = 20_000
"""Where all are asked for, a tree has so many; the text as JSON has the others."""
OPEN_LEVELS: Final = 2
_DEEPEST: Final = 30
_LONG_TEXT: Final = 400


def tree(data: Any, *, name: str, all_address: str = "") -> str:
    """The data as nested lists. name: of the tree in its page. all_address: of the page with everything in it, to which
    lists lead that are cut; empty where this is that page.
    """
    top = Element("ul", {"class": "tree", "id": f"{name}-tree"})
    _Drawing(name, all_address).add(top, None, data, 0)
    return tostring(top, encoding="unicode", method="html")


class _Drawing:
    def __init__(self, name: str, all_address: str) -> None:
        self._name, self._all_address = name, all_address
        self._left = MOST_IN_ALL if all_address else MOST_OF_ALL
        self._folds = 0

    def add(self, parent: Element, name: str | None, data: Any, level: int) -> None:
        self._left -= 1
        item = SubElement(parent, "li")
        is_branch = isinstance(data, Mapping | list | tuple) and bool(data)
        if is_branch and level < _DEEPEST:
            self._branch(item, name, data, level)
        else:
            _key(item, name)
            text = json.dumps(data, ensure_ascii=False, default=str)
            if len(text) > _LONG_TEXT:
                self._long(item, text, data)
            else:
                _value(item, text, data)

    def _branch(self, item: Element, name: str | None, data: Any, level: int) -> None:
        is_list = not isinstance(data, Mapping)
        fold = self._fold(item, is_open=level < OPEN_LEVELS)
        summary = SubElement(fold, "summary")
        _key(summary, name)
        one, many = ("item", "items") if is_list else ("field", "fields")
        SubElement(summary, "small").text = f"{len(data):,} {one if len(data) == 1 else many}"
        nested = SubElement(fold, "ul", {"data-kind": "list" if is_list else "object"})
        shown = 0
        for key, value in islice(_items(data), MOST_ITEMS if self._all_address else None):
            if self._left <= 0:
                break
            self.add(nested, key, value, level + 1)
            shown += 1
        if shown < len(data):
            self._cut(nested, len(data) - shown)

    def _fold(self, item: Element, *, is_open: bool) -> Element:
        self._folds += 1
        given = {"id": f"{self._name}-fold-{self._folds}"} | ({"open": "open"} if is_open else {})
        return SubElement(item, "details", given)

    def _cut(self, nested: Element, missing: int) -> None:
        nested.set("data-cut", "")
        item = SubElement(nested, "li", {"class": "more"})
        if self._all_address:
            SubElement(item, "a", href=self._all_address).text = f"{missing:,} more"
        else:
            item.text = f"{missing:,} more: the text as JSON has them."

    def _long(self, item: Element, text: str, data: Any) -> None:
        fold = self._fold(item, is_open=False)
        summary = SubElement(fold, "summary")
        SubElement(summary, "code", {"class": "begin"}).text = f"{text[: _LONG_TEXT // 4]}…"
        small = SubElement(summary, "small")
        small.text = f" {len(text):,} characters"
        _value(fold, text, data)


def _items(data: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(data, Mapping):
        return ((str(key), value) for key, value in data.items())
    return ((str(place), value) for place, value in enumerate(data))


def _key(parent: Element, name: str | None) -> None:
    if name is not None:
        key = SubElement(parent, "span", {"class": "key"})
        key.text = name
        key.tail = " "


def _value(parent: Element, text: str, data: Any) -> None:
    kind = "text" if isinstance(data, str) else "branch" if isinstance(data, Mapping | list | tuple) else "number"
    SubElement(parent, "code", {"class": f"value {kind}"}).text = text
