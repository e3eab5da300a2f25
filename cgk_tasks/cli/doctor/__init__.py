"""`cgk-tasks doctor`: is everything there that runs need, and if not, what to do."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from cgk_tasks.cli import exits
from cgk_tasks.cli.doctor.findings import FAIL, OK
from cgk_tasks.cli.doctor.printing import print_findings
from cgk_tasks.cli.output import AsJson, examples, out, print_json

EXAMPLES = examples("cgk-tasks doctor", "cgk-tasks doctor --json", "cgk-tasks doctor --quiet")


def doctor(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show only what is not OK.")] = False,
    as_json: AsJson = False,
) -> None:
    """Check settings, database, clock, transactions, broker, tenants, workers, jobs, queues, schedules and secrets.

    Changes nothing. Exits with 1 if anything is FAIL; a WARN may be on purpose.
    """
    from cgk_tasks.cli.doctor.examination import examine

    findings = examine()
    shown = [finding for finding in findings if not quiet or finding.level != OK]
    if as_json:
        print_json([asdict(finding) for finding in shown])
    elif shown:
        print_findings(shown, out())
    if any(finding.level == FAIL for finding in findings):
        raise typer.Exit(exits.FAILED)
