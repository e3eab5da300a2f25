"""The sandbox that templates of emails are filled in in.

Beside what Jinja's own sandbox forbids: a tenant's templates reach the common ones and its own, never another tenant's,
and what a template makes out of its data is bounded: its size, its steps, the numbers and texts in between. Data comes
from payloads, so a number in it may be huge. A template is a program all the same: whoever writes one is trusted with
the worker's time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sized
from contextvars import ContextVar
from functools import wraps
from pathlib import Path
from typing import Any, Final

from jinja2 import FileSystemLoader, StrictUndefined, TemplateNotFound, nodes, pass_eval_context
from jinja2.exceptions import TemplateRuntimeError
from jinja2.loaders import split_template_path
from jinja2.nodes import EvalContext
from jinja2.runtime import Context, markup_join, str_join
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

TENANTS: Final = "tenants"
"""The folder of what tenants have instead of the common templates."""

MOST_CHARACTERS: Final = 2_000_000
"""Of a part of an email, and of each text that is made on the way to it."""
MOST_STEPS: Final = 100_000
"""Rounds of loops, calls of macros and blocks, included templates; in a part."""
_MOST_BITS: Final = 10_000

_WIDTH_FILTERS: Final = ("batch", "center", "indent", "slice", "tojson", "truncate", "wordwrap")
_WIDTH: Final = re.compile(r"[0-9]{6,}|%[^a-zA-Z%]*\*|\{[^{}]*\{")
"""In a format: a width of a million, or one that is among the values."""

_steps: ContextVar[int] = ContextVar("cgk_template_steps", default=0)


class TenantLoader(FileSystemLoader):
    """A tenant's own files before the common ones, and nothing of other tenants, by whatever name or link."""

    def __init__(self, folder: Path, tenant_id: str) -> None:
        self._tenants = folder / TENANTS
        self._own = self._tenants / tenant_id
        super().__init__([self._own, folder])

    def get_source(self, environment: Any, template: str) -> tuple[str, str, Callable[[], bool]]:
        """As FileSystemLoader. TemplateNotFound for what is another tenant's."""
        first, *_rest = split_template_path(template) or [TENANTS]
        if first.casefold() == TENANTS:  # some file systems do not tell Tenants from tenants
            raise TemplateNotFound(template)
        source, filename, is_current = super().get_source(environment, template)
        path = Path(filename).resolve()
        if path.is_relative_to(self._tenants.resolve()) and not path.is_relative_to(self._own.resolve()):
            raise TemplateNotFound(template)
        return source, filename, is_current


class Sandbox(ImmutableSandboxedEnvironment):
    """Undefined names are errors: nobody should be greeted as an empty space."""

    intercepted_binops = frozenset({"*", "**", "+", "%"})

    def __init__(self, loader: TenantLoader) -> None:
        super().__init__(
            loader=loader,
            autoescape=lambda name: name is not None and name.endswith(".html"),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        del self.globals["lipsum"]
        for name in _WIDTH_FILTERS:
            self.filters[name] = _with_checked_widths(self.filters[name])
        self.filters["format"] = _with_checked_format(self.filters["format"])

    def fill_in(self, name: str, values: dict[str, Any]) -> str:
        """A template filled in. Raises TemplateError, and what odd data makes of an expression."""
        template = self.get_template(name)
        token = _steps.set(0)
        try:
            return template.render(values)
        finally:
            _steps.reset(token)

    def concat(self, parts: Iterable[str]) -> str:
        """How compiled templates join what they have made: the whole, and what blocks and macros return."""
        size, kept = 0, []
        for part in parts:
            size += len(part)
            _check_size(size)
            kept.append(part)
        return "".join(kept)

    def count_step(self) -> None:
        """What compiled templates call at each step."""
        steps = _steps.get() + 1
        _steps.set(steps)
        if steps > MOST_STEPS:
            raise TemplateRuntimeError(f"it takes more than {MOST_STEPS:,} steps (rounds of loops, macros, includes)")

    @pass_eval_context
    def join(self, context: EvalContext, *values: Any) -> str:
        """What compiled templates call for `~`."""
        texts = [value if isinstance(value, str) else str(value) for value in values]
        _check_size(sum(map(len, texts)))
        return markup_join(texts) if context.autoescape else str_join(texts)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Refuse what would be huge before it is made."""
        if operator == "%" and isinstance(left, str):
            _check_format(left)
        elif operator == "+" and isinstance(left, Sized) and isinstance(right, Sized):
            _check_size(len(left) + len(right))
        elif operator == "**":
            _check_bits(_bits(left) * right if isinstance(right, int) else 0)
        elif operator == "*":
            _check_bits(_bits(left) + _bits(right))
            for many, times in ((left, right), (right, left)):
                if isinstance(many, Sized) and isinstance(times, int):
                    _check_size(len(many) * times)
        return super().call_binop(context, operator, left, right)

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Refuse widths that would make a huge text."""
        method = getattr(obj, "__wrapped__", obj)  # str.format is wrapped by the sandbox
        text = getattr(method, "__self__", None)
        if isinstance(text, str):
            if method.__name__ in {"format", "format_map"}:
                _check_format(text)
            else:
                _check_widths(args, kwargs)
        return super().call(context, obj, *args, **kwargs)

    def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
        """Compile a template, with its steps counted and its `~` bounded."""
        return super()._generate(_Bounds(self).visit(source), *args, **kwargs)


class _Bounds(NodeTransformer):
    def __init__(self, environment: Sandbox) -> None:
        self._environment = environment

    def _with_step(self, node: Any) -> nodes.Node:
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(self._call("count_step", [], node.lineno), lineno=node.lineno))
        return node  # type: ignore[no-any-return]

    visit_Template = visit_For = visit_Macro = visit_Block = _with_step  # noqa: N815 - NodeTransformer's names

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return self._call("join", node.nodes, node.lineno)

    def _call(self, name: str, arguments: list[nodes.Expr], lineno: int) -> nodes.Call:
        function = nodes.EnvironmentAttribute(name, lineno=lineno, environment=self._environment)
        return nodes.Call(function, arguments, [], None, None, lineno=lineno, environment=self._environment)


def _with_checked_widths(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        _check_widths(args, kwargs)
        return function(*args, **kwargs)

    return checked


def _with_checked_format(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def checked(text: Any, *args: Any, **kwargs: Any) -> Any:
        _check_format(str(text))
        return function(text, *args, **kwargs)

    return checked


def _check_widths(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    for value in (*args, *kwargs.values()):
        if isinstance(value, int):
            _check_size(value)


def _check_format(text: str) -> None:
    if _WIDTH.search(text):
        raise TemplateRuntimeError("a format has a width of six digits, or one that is among its values")


def _check_size(characters: int) -> None:
    if characters > MOST_CHARACTERS:
        raise TemplateRuntimeError(f"it makes more than {MOST_CHARACTERS:,} characters")


def _check_bits(bits: int) -> None:
    if bits > _MOST_BITS:
        raise TemplateRuntimeError(f"it makes a number of more than {_MOST_BITS:,} bits")


def _bits(value: Any) -> int:
    return value.bit_length() if isinstance(value, int) else 0
