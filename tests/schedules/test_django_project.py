"""An application that is a Django project: beat uses the project's own settings and database."""

import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing, contextmanager

import pytest

from tests.schedules.beats import ROOT, BeatProcess
from tests.schedules.conftest import rows
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SETTINGS = """
SECRET_KEY = "test"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes"{app}]
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": "{folder}/project.sqlite3"}}}}
TIME_ZONE = "America/New_York"
USE_TZ = {use_tz}
"""


class Project:
    """A Django project in a folder, on a SQLite of its own, so that its tables are not taken for ours."""

    def __init__(self, folder, *, app=', "django_celery_beat"', use_tz=True):
        self._database = folder / "project.sqlite3"
        (folder / "shop_settings.py").write_text(SETTINGS.format(folder=folder, app=app, use_tz=use_tz))
        self.variables = {
            "DJANGO_SETTINGS_MODULE": "shop_settings",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]),
        }

    def run(self, *arguments):
        return subprocess.run(
            [sys.executable, "-m", *arguments], env={**os.environ, **self.variables}, cwd=ROOT,
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    def periodic_tasks(self):
        """The rows of django-celery-beat: whether each is enabled."""
        with closing(sqlite3.connect(self._database)) as connection:
            return dict(connection.execute("SELECT name, enabled FROM django_celery_beat_periodictask"))

    @contextmanager
    def busy(self):
        """Somebody else writes all the time."""
        is_over = threading.Event()

        def write():
            with closing(sqlite3.connect(self._database, timeout=60)) as connection:
                while not is_over.wait(0.002):
                    connection.execute(
                        "UPDATE django_celery_beat_periodictask SET total_run_count = total_run_count + 1"
                    )
                    connection.commit()

        writer = threading.Thread(target=write)
        writer.start()
        try:
            yield
        finally:
            is_over.set()
            writer.join()

    def tables(self):
        with closing(sqlite3.connect(self._database)) as connection:
            return {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}


@pytest.mark.parametrize("use_tz", [True, False])
def test_beat_keeps_its_entries_in_the_projects_database(clean, tmp_path, use_tz):
    project = Project(tmp_path, use_tz=use_tz)
    assert project.run("django", "migrate").returncode == 0
    beat = BeatProcess(["tests.schedules.beat_jobs"], **project.variables)
    try:
        ticked = "SELECT 1 FROM cgk.schedule_ticks WHERE schedule = 'test-each-second' AND runs = 3"
        wait_until(lambda: len(rows(ticked)) >= 2, 40, "two ticks")
        assert project.periodic_tasks()["test-each-second"] == 1

        done = project.run("cgk_tasks.cli", "schedules", "pause", "ab.hourlyMetrics")
        assert done.returncode == 0, done.stderr
        paused = "SELECT 1 FROM cgk.schedules WHERE name = 'ab.hourlyMetrics' AND NOT is_enabled"
        wait_until(lambda: rows(paused), 20, "beat follows the project's row")
        assert project.periodic_tasks()["ab.hourlyMetrics"] == 0
    finally:
        beat.stop()
    assert "Traceback" not in beat.log


def test_migrate_leaves_the_projects_database_to_manage_py_and_says_so(clean, tmp_path):
    project = Project(tmp_path)
    done = project.run("cgk_tasks.cli", "migrate")
    assert done.returncode == 0, done.stderr
    assert "manage.py migrate" in done.stderr
    assert project.tables() == set()


def test_a_project_without_django_celery_beat_is_told_what_to_add(clean, tmp_path):
    done = Project(tmp_path, app="").run("cgk_tasks.cli", "migrate")
    assert done.returncode == 1
    assert 'Add "django_celery_beat" to its INSTALLED_APPS' in done.stderr


def test_schedules_are_paused_while_others_write_to_the_projects_sqlite(clean, tmp_path):
    project = Project(tmp_path)
    assert project.run("django", "migrate").returncode == 0
    beat = BeatProcess(["tests.schedules.beat_jobs"], **project.variables)
    wait_until(lambda: "ab.hourlyMetrics" in project.periodic_tasks(), 40, "the entries")
    beat.stop()
    with project.busy():
        for word, enabled in (("pause", 0), ("resume", 1), ("pause", 0)):
            done = project.run("cgk_tasks.cli", "schedules", word, "ab.hourlyMetrics")
            assert done.returncode == 0, done.stderr
            assert project.periodic_tasks()["ab.hourlyMetrics"] == enabled
