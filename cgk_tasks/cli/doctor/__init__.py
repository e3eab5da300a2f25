"""`cgk-tasks doctor`: is everything there that runs need, and if not, what to do."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from cgk_tasks.cli import exits
from cgk_tasks.cli.doctor.findings import FAIL, OK, WARN, Finding
from cgk_tasks.cli.output import AsJson, examples, out, print_json

EXAMPLES = examples("cgk-tasks doctor", "cgk-tasks doctor --json", "cgk-tasks doctor --quiet")

_STYLES = {OK: "green", WARN: "yellow", FAIL: "bold red"}


def doctor(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show only what is not OK.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check settings, database, broker, clock, tenants, workers, jobs, queues and schedules.

    Changes nothing. Exits with 1 if anything is FAIL; a WARN may be on purpose.
    """
    from cgk_tasks.cli.doctor.examination import examine

    findings = examine()
    shown = [finding for finding in findings if not quiet or finding.level != OK]
    if as_json:
        print_json([asdict(finding) for finding in shown])
    elif shown:
        _print(shown)
    if any(finding.level == FAIL for finding in findings):
        raise typer.Exit(exits.FAILED)


def _print(findings: list[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        table.add_row(
            Text(finding.level, _STYLES[finding.level]), Text(finding.check, "bold"), Text(finding.message)
        )
        if finding.advice:
            table.add_row("", "", Text(f"→ {finding.advice}", "cyan"))
    out().print(table)
