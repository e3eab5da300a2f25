"""A hosted system: its keys, whether it answers, and what of ours is left."""

from __future__ import annotations

from cgk_tasks.cli.doctor import database
from cgk_tasks.cli.doctor.findings import FAIL, Finding, fail, ok, warn
from cgk_tasks.config import get_settings
from cgk_tasks.sql.postgres import autocommit, fetch, statements

SQL = statements("doctor")


def check(provider: str) -> list[Finding]:
    from cgk_tasks.client import create_job_client

    client = create_job_client(provider)
    try:
        health = client.health_check()
    finally:
        client.close()
    findings = [ok("settings", f"send_job sends to {provider}; its functions run there")]
    if health.healthy:
        findings.append(ok(provider, f"reached in {health.latency_seconds:.2f} s, and it knows the key"))
    else:
        findings.append(fail(provider, health.error or "", health.hint or ""))
    return [*findings, *_our_own()]


def _our_own() -> list[Finding]:
    """With a database, tenants are checked against it, and runs of an earlier provider may be left in it."""
    settings = get_settings()
    if settings.database_url is None:
        return [warn("tenants", "No database is configured: every well-formed tenant id is taken for a tenant.")]
    findings = database.check(settings)
    if any(finding.level == FAIL for finding in findings):
        return findings
    with autocommit() as connection:
        left = fetch(connection, SQL["open_runs"])[0]["runs"]
    if left:
        findings.append(
            warn(
                "runs",
                f"{left:,} runs are open in PostgreSQL: workers of this application must end them.",
                "Keep them running.",
            )
        )
    return findings
