"""Sends of many threads, which go to PostgreSQL together: each is on record once, whatever happens to the others."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from cgk_tasks import get_run, send_job
from cgk_tasks.errors import StoreError
from cgk_tasks.flow import accept, thread_sends
from cgk_tasks.flow.new_run import SendOptions
from cgk_tasks.flow.new_run import new_run as make_run
from cgk_tasks.sql.postgres import autocommit, open_connections
from cgk_tasks.tenancy import tenant_context
from tests.support.jobs import Behave
from tests.support.observed import observed_statements
from tests.support.waiting import wait_closed, wait_until

THREADS = 16
SENDS = 25


@pytest.fixture
def threads(database):
    with ThreadPoolExecutor(THREADS) as pool:
        yield pool


@pytest.fixture
def statements_run():
    """How often each statement runs in a test."""
    with observed_statements() as found:
        yield found


def send(argument, tenant="acme"):
    return send_job(Behave(tenant_id=tenant, action="echo", argument=str(argument))).id


def on_record(ids):
    """Those of the runs that are open or have ended, each as often as it is there."""
    everywhere = "SELECT id FROM cgk.runs UNION ALL SELECT id FROM cgk.run_history"
    with autocommit() as connection:
        rows = connection.execute(
            f"SELECT id::text FROM ({everywhere}) AS known WHERE id = ANY(%s::uuid[])", [list(ids)]
        ).fetchall()
    return sorted(row[0] for row in rows)


def test_each_send_is_on_record_as_what_it_was(threads):
    ids = list(threads.map(send, range(THREADS * SENDS)))
    assert on_record(ids) == sorted(ids)
    assert [get_run(run_id).payload["argument"] for run_id in ids[:50]] == [str(number) for number in range(50)]


def test_they_share_inserts_and_connections(threads, statements_run):
    before = open_connections()
    list(threads.map(send, range(THREADS * SENDS)))
    inserts = [label for label in statements_run if label.startswith("transitions.insert")]
    assert len(inserts) < THREADS * SENDS
    assert open_connections() <= max(before, 5)


def test_each_send_is_in_the_tenant_of_its_own_thread(threads):
    def send_for(number):
        tenant = ("acme", "globex", "initech")[number % 3]
        with tenant_context(tenant):
            return tenant, send(number, tenant)

    for tenant, run_id in threads.map(send_for, range(THREADS * 6)):
        assert get_run(run_id).tenant_id == tenant


@pytest.fixture
def bad_payloads(database):
    """PostgreSQL refuses some rows."""
    with autocommit() as connection:
        connection.execute(
            "ALTER TABLE cgk.runs ADD CONSTRAINT refuses CHECK (position('bad'::bytea IN sealed_payload) = 0) NOT VALID"
        )
    yield
    with autocommit() as connection:
        connection.execute("ALTER TABLE cgk.runs DROP CONSTRAINT refuses")


@pytest.mark.usefixtures("bad_payloads")
def test_a_row_that_is_refused_fails_its_own_send_alone(threads):
    def send_some(number):
        try:
            return number, send("bad" if number % 7 == 0 else number)
        except StoreError:
            return number, None

    sent = dict(threads.map(send_some, range(THREADS * SENDS)))
    assert [number for number, run_id in sent.items() if run_id is None] == list(range(0, THREADS * SENDS, 7))
    ids = [run_id for run_id in sent.values() if run_id]
    assert on_record(ids) == sorted(ids)


def new_run():
    """A run that is not accepted yet."""
    options = SendOptions()
    return make_run("test.behave", "acme", '{"tenantId": "acme", "action": "echo", "argument": "again"}', options)


def test_a_run_that_is_accepted_again_is_on_record_once(database):
    run = new_run()
    accept._accept_alone(run)
    assert accept._accept_again(run).id == run.id
    assert on_record([run.id]) == [run.id]


def test_a_run_that_nobody_has_accepted_yet_is_accepted(database):
    run = new_run()
    accept._accept_again(run)
    assert on_record([run.id]) == [run.id]


@pytest.mark.slow
def test_a_run_that_has_ended_is_not_made_again(database, start_worker):
    start_worker(["tests.support.jobs"])
    run = new_run()
    accept._accept_alone(run)
    wait_closed(run.id, 30)
    assert accept._accept_again(run).id == run.id
    assert on_record([run.id]) == [run.id]
    assert get_run(run.id).state == "completed"


@pytest.mark.slow
def test_a_run_that_went_alone_and_has_ended_is_not_made_by_a_late_leader(threads, start_worker, monkeypatch):
    start_worker(["tests.support.jobs"])
    sends, gate = accept._SENDS.current(), threading.Event()
    several = sends._several
    monkeypatch.setattr(thread_sends, "_WAIT_SECONDS", 60.0)  # for a turn
    monkeypatch.setattr(thread_sends, "_TAKEN_SECONDS", 0.1)
    # As a leader that waits for a connection.
    monkeypatch.setattr(sends, "_several", lambda taken: several(taken) if gate.wait(60) else None)
    turns = [sends._free_turn() for _ in range(thread_sends._AT_ONCE)]
    sent = [threads.submit(send, number) for number in range(2)]
    wait_until(lambda: len(sends._waiting) == len(sent), what="they wait")
    del turns[:]
    (early,) = wait_until(lambda: [one.result() for one in sent if one.done()], what="one goes alone")
    wait_closed(early)
    gate.set()
    ids = [one.result(20) for one in sent]
    assert on_record(ids) == sorted(ids)


INTERRUPTED_SENDS = """
import contextlib, ctypes, random, sys, threading
import tests.support.jobs
from cgk_tasks import send_job

class Interrupt(BaseException):
    pass

def send(argument):
    ids.append(send_job("test.behave", {"tenantId": "acme", "action": "echo", "argument": argument}).id)

def send_all_the_time():
    while not stop.is_set():
        with contextlib.suppress(BaseException):  # a connection that is interrupted amid a login is a StoreError
            send("interrupted")

ids, stop = [], threading.Event()
threading.excepthook = lambda _: None  # one that is interrupted between two sends ends
sys.unraisablehook = lambda _: None
send("imports all of it")
threads = [threading.Thread(target=send_all_the_time, daemon=True) for _ in range(8)]
for thread in threads:
    thread.start()
for _ in range(100):
    victim = ctypes.c_ulong(random.choice(threads).ident)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(victim, ctypes.py_object(Interrupt))
    stop.wait(0.01)
stop.set()
for thread in threads:
    thread.join(30)
print(sum(thread.is_alive() for thread in threads))
send("after them")
print(*ids)
"""
"""As a time limit interrupts a thread. In a process of its own, of which nothing is whole afterwards."""


def test_threads_that_are_interrupted_at_any_step_hold_nobody_up_and_lose_nothing(database):
    command = [sys.executable, "-c", INTERRUPTED_SENDS]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert said.returncode == 0, said.stderr
    alive, told = said.stdout.splitlines()[-2:]
    assert (alive, on_record(told.split())) == ("0", sorted(told.split()))
    assert len(told.split()) > 2


SENDS_UNTIL_KILLED = """
import os, threading
import tests.support.jobs
from cgk_tasks import send_job

def send_all_the_time():
    while True:
        run = send_job("test.behave", {"tenantId": "acme", "action": "echo", "argument": "killed"})
        os.write(1, (run.id + "\\n").encode())

for _ in range(8):
    threading.Thread(target=send_all_the_time).start()
"""


def test_what_a_process_that_is_killed_was_told_is_on_record(database):
    with subprocess.Popen([sys.executable, "-c", SENDS_UNTIL_KILLED], stdout=subprocess.PIPE, env=os.environ) as sender:
        told = [sender.stdout.readline().decode().strip() for _ in range(200)]
        sender.send_signal(signal.SIGKILL)
        told += [line for line in sender.stdout.read().decode().split("\n") if len(line) == len(told[0])]
    assert on_record(told) == sorted(told)
