"""deploy/systemd: the units, as systemd itself reads them."""

import re
import shutil
import subprocess

import pytest

from tests.deploy.files import DEPLOY, bin_folder, is_command
from tests.docs.pages import name_of

UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")


def options(unit, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", unit.read_text(), re.MULTILINE)


@pytest.fixture
def copies(tmp_path):
    """The units with a program and a user that this machine has; of templates an instance."""
    for unit in UNITS:
        text = unit.read_text().replace("/opt/cgk-tasks/bin", str(bin_folder()))
        text = re.sub(r"^(User|Group)=.*$", r"\1=daemon", text, flags=re.MULTILINE)
        (tmp_path / unit.name).write_text(text)
        if "@" in unit.name:
            (tmp_path / unit.name.replace("@", "@cgk")).write_text(text)
    return sorted(path for path in tmp_path.iterdir() if "@." not in path.name)


def test_there_is_a_unit_for_each_part():
    assert [unit.stem.removeprefix("cgk-tasks-") for unit in UNITS] == [
        "beat", "dashboard", "gateway", "metrics", "migrate", "worker@",
    ]  # fmt: skip


@needs_systemd
def test_systemd_finds_nothing_wrong(copies):
    done = subprocess.run(
        [ANALYZE, "verify", "--man=no", *map(str, copies)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, [line for line in done.stderr.splitlines() if "cgk-tasks" in line]) == (0, [])


@needs_systemd
def test_systemd_finds_little_that_a_unit_may_do(copies):
    """Exposure is from 0 to 10, times ten here; systemd calls less than 2 safe."""
    for unit in copies:
        done = subprocess.run(
            [ANALYZE, "security", "--offline=yes", "--threshold=20", "--no-pager", str(unit)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-300:] + done.stderr


@pytest.mark.parametrize("unit", UNITS, ids=name_of)
def test_a_unit_runs_a_command_that_there_is(unit):
    program, *arguments = options(unit, "ExecStart")[0].split()
    assert is_command([program.removeprefix("/opt/cgk-tasks/bin/"), *arguments])


@pytest.mark.parametrize("unit", UNITS, ids=name_of)
def test_secrets_come_from_files_that_the_process_alone_can_read(unit):
    credentials = {line.split(":")[0] for line in options(unit, "LoadCredential")}
    files = dict(line.split("=") for line in options(unit, "Environment") if "_FILE=" in line)
    assert credentials == {"database-url", "broker-url", "encryption-keys"}
    assert files == {
        "CGK_DATABASE_URL_FILE": "%d/database-url", "CGK_BROKER_URL_FILE": "%d/broker-url",
        "CGK_ENCRYPTION_KEYS_FILE": "%d/encryption-keys",
    }  # fmt: skip


def test_all_units_have_the_same_limits():
    limits = {
        unit.read_text().partition("# ---- what it may not do")[2].partition("[Install]")[0].strip() for unit in UNITS
    }
    assert len(limits) == 1
    assert "NoNewPrivileges=yes" in limits.pop()


def test_systemd_waits_five_seconds_longer_than_a_worker_lets_its_jobs_run():
    worker = next(unit for unit in UNITS if "worker" in unit.name)
    environment = dict(line.split("=", 1) for line in options(worker, "Environment"))
    assert int(options(worker, "TimeoutStopSec")[0]) == int(environment["CGK_STOP_GRACE_SECONDS"]) + 5
    assert options(worker, "KillMode") == ["mixed"]
