"""Which files of the working folder the jobs import, found by reading them: also what a function imports when it
runs.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path


def imported_files(folder: Path, modules: Iterable[str]) -> frozenset[Path]:
    """The files below `folder` that these modules are made of and import, directly or through others.

    Modules that are not there yet count with the files that they would be: making one is a change, too.
    """
    found: set[Path] = set()
    names = set(modules)
    seen: set[str] = set()
    while names:
        name = names.pop()
        if name in seen:
            continue
        seen.add(name)
        for path in _places(folder, name):
            if path not in found:
                found.add(path)
                names |= set(_imports(path, name))
    return frozenset(found)


def _places(folder: Path, name: str) -> Iterator[Path]:
    """The files of a module and of the packages around it. Nothing for a module of elsewhere, such as `json`."""
    parts = name.split(".")
    top = folder / parts[0]
    if len(parts) > 1 and not top.is_dir():
        return
    for end in range(1, len(parts)):
        yield folder.joinpath(*parts[:end], "__init__.py")
    path = folder.joinpath(*parts)
    yield path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _imports(path: Path, name: str) -> Iterator[str]:
    """What a file imports, anywhere in it; nothing of one that is not there, or cannot be read as Python."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            begin = _absolute(package, node)
            yield begin
            # `from shop import emails` may name a module.
            yield from (f"{begin}.{alias.name}" for alias in node.names if begin)


def _absolute(package: str, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    parents = parts[: len(parts) - node.level + 1]
    return ".".join([*parents, *([node.module] if node.module else [])])
