"""Questions at the terminal, on stderr. Where nobody can be asked, the question itself is the error."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from rich.prompt import Confirm, Prompt
from rich.text import Text

from cgk_tasks.cli.output import err, say
from cgk_tasks.cli.setup.failure import SETTING, SetupFailure


class Questions:
    """may_ask: False with `--non-interactive` and `--verify-only`. Ctrl-C raises KeyboardInterrupt, Ctrl-D EOFError."""

    def __init__(self, *, may_ask: bool) -> None:
        self.may_ask = may_ask

    def text(self, question: str, *, suggestion: str | None, otherwise: str) -> str:
        """A line. suggestion: what Enter means. otherwise: what to do where nobody can be asked."""
        self._require(question, otherwise)
        answer = ""
        while not answer:
            answer = Prompt.ask(Text(question), console=err(), default=suggestion or "", show_default=bool(suggestion))
        return answer.strip()

    def secret(self, question: str, *, otherwise: str) -> str:
        """A line that is not shown; it may be empty."""
        self._require(question, otherwise)
        return Prompt.ask(Text(question), console=err(), default="", show_default=False, password=True)

    def choice(self, question: str, choices: Mapping[str, str], *, default: str, otherwise: str) -> str:
        """One of several, each with what it means."""
        self._require(question, otherwise)
        width = max(len(name) for name in choices)
        for name, meaning in choices.items():
            say(f"  {name:<{width}}  {meaning}")
        return Prompt.ask(Text(question), console=err(), choices=list(choices), default=default)

    def confirm(self, question: str) -> bool:
        """Yes by default; no where nobody can be asked."""
        return self.may_ask and sys.stdin.isatty() and Confirm.ask(Text(question), console=err(), default=True)

    def _require(self, question: str, otherwise: str) -> None:
        if not self.may_ask:
            raise SetupFailure(SETTING, f"{question}: there is no answer. {otherwise}")
        if not sys.stdin.isatty():
            raise SetupFailure(
                SETTING, f"{question}: there is no terminal to ask at. Use --non-interactive. {otherwise}"
            )
