"""Findings as a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cgk_tasks.cli.doctor.findings import FAIL, OK, WARN, Finding

if TYPE_CHECKING:
    from rich.console import Console

_STYLES = {OK: "green", WARN: "yellow", FAIL: "bold red"}


def print_findings(findings: Sequence[Finding], console: Console) -> None:
    """One line each, and below it what to do."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        table.add_row(Text(finding.level, _STYLES[finding.level]), Text(finding.check, "bold"), Text(finding.message))
        if finding.advice:
            table.add_row("", "", Text(f"→ {finding.advice}", "cyan"))
    console.print(table)
