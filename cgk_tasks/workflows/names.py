"""The names of steps that a workflow's function has, read from its source when it is defined.

A memo whose name the function does not have any more was made by other code. Where a name is made while the function
runs, or the context is handed to other functions, any name may be meant, and nothing is concluded.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

from cgk_tasks.errors import ConfigurationError

NAMED: Final = frozenset(
    {
        "step",
        "effect",
        "sleep",
        "sleep_until",
        "wait_for_signal",
        "wait_for_event",
        "wait_any",
        "invoke",
        "gather",
        "compensate",
        "parallel",
    }
)
"""The methods of a context that take the name of a step first."""

UNNAMED: Final = {"now": "$now", "uuid": "$uuid", "signal_url": "$signal_url"}
"""The methods whose steps have a name of their own."""


@dataclass(frozen=True, slots=True)
class KnownNames:
    """literal: names as they are in the source. patterns: of names with something inserted. any_name: all are."""

    literal: frozenset[str] = frozenset()
    patterns: tuple[re.Pattern[str], ...] = ()
    any_name: bool = False

    def has(self, name: str) -> bool:
        return self.any_name or name in self.literal or any(one.fullmatch(name) for one in self.patterns)


ANY_NAME: Final = KnownNames(any_name=True)

_LONGEST: Final = 200


def check_name(name: object) -> None:
    """Raises ConfigurationError for what cannot be the name of a step."""
    is_name = isinstance(name, str) and 0 < len(name) <= _LONGEST and name.isprintable()
    if not is_name or str(name).startswith("$"):
        raise ConfigurationError(
            f"A step cannot be called {name!r}.",
            hint=f"Its name is a text of 1 to {_LONGEST} printable characters that does not begin with $.",
        )


def names_in(function: Callable[..., Any]) -> KnownNames:
    """The names of steps in a workflow's function."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):  # made without a file, or part of a line
        return ANY_NAME
    found = next((node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)), None)
    arguments = [*found.args.posonlyargs, *found.args.args] if found is not None else []
    if found is None or not arguments:
        return ANY_NAME
    return _names(found, arguments[0].arg)


def _names(function: ast.AST, context: str) -> KnownNames:
    literal: set[str] = set()
    patterns: list[re.Pattern[str]] = []
    understood: set[int] = set()
    for call, method in _calls(function, context):
        understood.add(id(call.func))
        if method in UNNAMED:
            literal.add(UNNAMED[method])
            continue
        name = call.args[0] if call.args and all(one.arg is not None for one in call.keywords) else None
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            literal.update(_names_of(method, name.value, call))
        elif isinstance(name, ast.JoinedStr) and method != "parallel":
            patterns.append(_pattern(name))
        else:
            return ANY_NAME
    if any(True for _ in _other_uses(function, context, understood)):
        return ANY_NAME
    return KnownNames(frozenset(literal), tuple(patterns))


def _names_of(method: str, name: str, call: ast.Call) -> Iterator[str]:
    """Those of the steps of one call: `parallel` has one for each function."""
    if method == "parallel":
        yield from (f"{name}.{one.arg}" for one in call.keywords)
    else:
        yield name


def _calls(function: ast.AST, context: str) -> Iterator[tuple[ast.Call, str]]:
    """The calls of methods that make steps."""
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and _is_step(node.func, context):
            yield node, node.func.attr


def _is_step(node: ast.AST, context: str) -> TypeGuard[ast.Attribute]:
    return (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == context
        and (node.attr in NAMED or node.attr in UNNAMED)
    )


def _other_uses(function: ast.AST, context: str, understood: set[int]) -> Iterator[ast.AST]:
    """Where the context, or a method of it, is handed to something that cannot be seen through."""
    attributes_of = {id(node.value) for node in ast.walk(function) if isinstance(node, ast.Attribute)}
    for node in ast.walk(function):
        is_method = _is_step(node, context) and id(node) not in understood
        is_itself = isinstance(node, ast.Name) and node.id == context and id(node) not in attributes_of
        if is_method or is_itself:
            yield node


def _pattern(name: ast.JoinedStr) -> re.Pattern[str]:
    parts = (re.escape(str(part.value)) if isinstance(part, ast.Constant) else ".*" for part in name.values)
    return re.compile("".join(parts), re.DOTALL)
