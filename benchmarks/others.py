"""The same no-op through several systems, each in its documented production setting with two worker processes."""

# ruff: noqa: RUF001, RUF003 - × is meant

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version

from harness import Plan, Table, Workers, clear, environment, percentile, wait_for_marks
from peers import all_peers
from peers.peer import Peer

_WARM_UP = 10
_LOOK_SECONDS = 0.003

Figures = tuple[float, float, float, float, float]
"""Drained a second, sent in bulk a second, one send in µs (p50), a lone job's latency in ms (p50, p99)."""


def measure(plan: Plan) -> Table:
    peers = all_peers()
    clear()
    for peer in peers:
        peer.prepare()
    figures: dict[str, list[Figures]] = {peer.name: [] for peer in peers}
    for _ in range(plan.repeats):
        for peer in peers:
            clear()
            with environment(peer.environment):
                figures[peer.name].append(once(peer, plan))
            print(f"  {peer.name}: {figures[peer.name][-1]}", file=sys.stderr, flush=True)
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in figures.items()
    }
    plain = medians["plain Celery"][0]
    versions = sorted({package for peer in peers for package in peer.packages})
    return Table(
        "others",
        "Beside other queues",
        f"No-ops with the same small JSON payload, a backlog of {plan.deep_backlog:,} (plain Celery: "
        f"{round(plan.deep_backlog * _plain_share(peers)):,}). Each sends in bulk in its own best documented way. "
        f"Versions: {', '.join(f'{name} {version(name)}' for name in versions)}.",
        ("system", "drains", "× plain Celery", "bulk send", "one send, p50", "lone job, p50", "p99", "guarantees"),
        [_row(peer, medians[peer.name], plain) for peer in sorted(peers, key=lambda peer: -medians[peer.name][0])],
    )


def once(peer: Peer, plan: Plan) -> Figures:
    """One repetition. Marking jobs before and after the backlog, or the record, tell when it was begun and done."""
    peer.clear()
    count = round(plan.deep_backlog * peer.share)
    sends = peer.time_sends(plan.peer_sends)
    clear()
    peer.clear()
    peer.mark(0.0)
    begun = time.perf_counter()
    peer.send_many(count)
    bulk = count / (time.perf_counter() - begun)
    peer.mark(0.0)
    with Workers(*peer.commands()) as workers:
        marks = wait_for_marks(workers, 2)
        workers.wait(lambda: peer.left() == 0)
        first, last = peer.span(marks)
        latencies = lone_jobs(peer, workers, plan.peer_lone_jobs)
    return (
        count / (last - first), bulk, percentile(sends, 50) * 1e6,
        percentile(latencies, 50) * 1e3, percentile(latencies, 99) * 1e3,
    )  # fmt: skip


def lone_jobs(peer: Peer, workers: Workers, count: int) -> list[float]:
    """Seconds from before the send to the first line of the job, on idle workers."""
    times = []
    for _ in range(_WARM_UP + count):
        peer.mark(time.time())
        times += wait_for_marks(workers, 1, _LOOK_SECONDS)
    return times[_WARM_UP:]


def _plain_share(peers: Sequence[Peer]) -> float:
    return next(peer.share for peer in peers if peer.name == "plain Celery")


def _row(peer: Peer, figures: Sequence[float], plain: float) -> list[str]:
    drain, bulk, send, p50, p99 = figures
    return [
        f"{peer.name}<br>{peer.how}", f"{drain:,.0f}/s", f"{drain / plain:.1f} ×", f"{bulk:,.0f}/s", f"{send:,.0f} µs",
        f"{p50:.2f} ms", f"{p99:.2f} ms", peer.guarantees,
    ]  # fmt: skip
