"""SIGKILL of worker processes in the middle of chains and chords: everything completes, and once."""

import contextlib
from pathlib import Path

import psutil
import pytest
from celery import chain, chord, group
from sqlalchemy import text

from cgk_tasks import get_job_status
from cgk_tasks.runs.models import run_id_of
from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.tenancy import tenant_session
from tests.integration import canvas_tasks as tasks
from tests.integration.canvas_tasks import add, collect, total
from tests.support.waiting import get, wait_until

pytestmark = [pytest.mark.usefixtures("acme"), pytest.mark.slow]  # they kill workers


def test_a_death_in_the_middle_of_a_chain(tmp_path):
    assert get((add.s(1, 2) | tasks.die_once.s(str(tmp_path / "flag")) | add.s(3)).delay()) == 7


def test_deaths_of_members_and_of_the_body_of_a_chord(tmp_path):
    header = [tasks.die_once.s(number, str(tmp_path / str(number))) for number in range(3)]
    body = total.s() | tasks.die_once.s(str(tmp_path / "body")) | tasks.note_value.s(str(tmp_path / "effect"))
    assert get(chord(header)(body)) == 7
    assert (tmp_path / "effect").read_text() == "7\n"


def test_a_death_between_a_runs_end_and_what_follows_loses_neither(tmp_path):
    result = (
        tasks.die_while_handing_on.s(str(tmp_path / "flag")) | tasks.note_value.s(str(tmp_path / "effect"))
    ).delay()
    assert get(result) == "written"
    assert (tmp_path / "effect").read_text() == "written\n"
    assert get_job_status(result.parent.id).deaths == 1


def test_a_death_between_the_last_members_end_and_the_body_loses_neither(tmp_path):
    result = chord([tasks.die_while_handing_on.s(str(tmp_path / "flag"))])(collect.s())
    assert get(result) == ["written"]
    assert get_job_status(result.parent.results[0].id).deaths == 1


def test_what_a_job_wrote_its_end_and_what_follows_commit_together(tmp_path):
    event = tasks.writes.s(tenant_id="acme", order_id=f"o-{tmp_path}", path=str(tmp_path / "flag"))
    assert get((event | tasks.note_value.s(str(tmp_path / "effect"))).delay()) == "written"
    assert (tmp_path / "effect").read_text() == "written\n"
    with tenant_session() as db:
        orders = db.execute(text("SELECT count(*) FROM orders WHERE order_id = :id"), {"id": f"o-{tmp_path}"})
        assert orders.scalar_one() == 1


def test_random_deaths_of_the_workers_children_in_chains_and_chords(worker, tmp_path):
    begun = now()
    step = tasks.work_a_little.s()
    sent = [chain(tasks.work_a_little.s(0), step, step, step).delay() for _ in range(10)]
    sent.append(chord(chain(tasks.work_a_little.s(number), step) for number in range(20))(collect.s()))
    sent.append(chain(group(tasks.work_a_little.s(number) for number in range(20)), total.s(), step).delay())
    ids = [run_id_of(result.id) for result in sent]
    for _ in range(4):
        open_before = closed_count(ids)
        for child in worker.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        wait_until(lambda before=open_before: worker.children() and closed_count(ids) >= before)
    assert [get(result) for result in sent] == [4] * 10 + [list(range(2, 22)), sum(range(1, 21)) + 1]
    assert runs_closed_more_than_once(begun) == []
    assert groups_left_open(begun) == []


def closed_count(ids):
    with autocommit() as connection:
        query = "SELECT count(*) FROM cgk.run_history WHERE id = ANY(%s::uuid[])"
        return connection.execute(query, (ids,)).fetchone()[0]


def now():
    with autocommit() as connection:
        return connection.execute("SELECT clock_timestamp()").fetchone()[0]


def runs_closed_more_than_once(since):
    with autocommit() as connection:
        query = "SELECT id FROM cgk.run_history WHERE closed_at > %s GROUP BY id HAVING count(*) > 1"
        return connection.execute(query, (since,)).fetchall()


def groups_left_open(since):
    with autocommit() as connection:
        query = "SELECT id FROM cgk.groups WHERE created_at > %s AND results IS NULL"
        return connection.execute(query, (since,)).fetchall()


def test_effects_that_a_killed_process_left_unfinished_are_the_only_ones_that_repeat(tmp_path):
    path = str(tmp_path / "notes")
    chained = chain(tasks.note.s(path, "a"), tasks.die_once.si(1, str(tmp_path / "flag")), tasks.note.si(path, "b"))
    get(chained.delay())
    assert Path(path).read_text().split() == ["a", "b"]
