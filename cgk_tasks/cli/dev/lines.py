"""The output of several processes in one terminal: each line after its process's name, in its colour."""

from __future__ import annotations

from cgk_tasks.cli.output import out

_STYLES = {"services": "magenta", "worker": "green", "beat": "yellow", "flower": "cyan"}
_WIDTH = max(len(name) for name in _STYLES)


class Lines:
    """Prints `worker   | text`. Colours only on a terminal."""

    def __init__(self) -> None:
        self._console = out()

    def show(self, name: str, text: str) -> None:
        from rich.text import Text

        prefix = Text(f"{name:<{_WIDTH}} | ", _STYLES.get(name, "bold"))
        self._console.print(prefix + Text.from_ansi(text.rstrip("\r\n")), soft_wrap=True)

    def plain(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, markup=False)
