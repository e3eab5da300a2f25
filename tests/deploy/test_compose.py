"""deploy/compose: the services of one machine."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy.files import DEPLOY, GROUP, bin_folder, compose, interpolated, is_command

FOLDER = DEPLOY / "compose"
EXAMPLE = (FOLDER / ".env.example").read_text()
FILLED = dict.fromkeys(interpolated(), "")| {
    "IMAGE": "shop:1", "POSTGRES_PASSWORD": "a", "REDIS_PASSWORD": "b", "CGK_ENCRYPTION_KEYS": "c",
    "FLOWER_COOKIE_SECRET": "d", "GRAFANA_ADMIN_PASSWORD": "e", "CGK_JOB_MODULES": "shop",
}  # fmt: skip
FILE = compose(FILLED)
SERVICES = FILE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"] == "shop:1"}


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


@pytest.fixture(scope="module")
def program():
    found = shutil.which("docker-compose") or shutil.which("docker-compose", path=str(bin_folder()))
    return found or pytest.skip(GROUP)


def config(program: str, env_file: Path) -> subprocess.CompletedProcess[str]:
    """What Compose makes of the file. It needs no engine for that."""
    return subprocess.run(
        [program, "--env-file", env_file, "config", "--format", "json"],
        cwd=FOLDER, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_compose_reads_the_file_with_the_example_filled_in(program, tmp_path):
    (tmp_path / "env").write_text("".join(f"{name}={value}\n" for name, value in FILLED.items() if value))
    read = config(program, tmp_path / "env")
    assert read.returncode == 0, read.stderr
    assert set(json.loads(read.stdout)["services"]) == set(SERVICES)


def test_compose_names_what_the_example_leaves_empty(program):
    read = config(program, FOLDER / ".env.example")
    assert read.returncode != 0
    assert "required variable" in read.stderr


def test_the_example_has_every_variable_and_no_other():
    assert set(re.findall(r"^(\w+)=", EXAMPLE, re.MULTILINE)) == interpolated()


def test_every_variable_of_the_example_is_explained_right_before_it():
    blocks = [block for block in EXAMPLE.split("\n\n") if re.search(r"^\w+=", block, re.MULTILINE)]
    assert [block for block in blocks if not re.match(r"#(?! ----)", block)] == []


@pytest.mark.parametrize("name", sorted(set(FILLED) - {"IMAGE"} - set(re.findall(r"^(\w+)=.+", EXAMPLE, re.MULTILINE))))
def test_a_value_that_the_example_leaves_empty_is_asked_for_or_may_be_empty(name):
    without = {key: value for key, value in FILLED.items() if key != name}
    if name in {"CGK_QUEUES", "CGK_SIGNAL_URL", "CGK_GATEWAY_ORIGINS"}:
        assert compose(without)["services"]["worker"]["environment"][name] == ""
    else:
        with pytest.raises(KeyError, match=name):
            compose(without)


def test_there_are_all_parts_and_two_beats():
    assert set(OURS) == {"migrate", "worker", "beat", "dashboard", "gateway", "exporter"}
    assert set(SERVICES) - set(OURS) == {"postgres", "redis", "prometheus", "grafana"}
    assert SERVICES["beat"]["deploy"]["replicas"] == 2


@pytest.mark.parametrize("name", OURS)
def test_a_process_of_ours_runs_a_command_that_there_is(name):
    assert is_command(OURS[name]["command"])


@pytest.mark.parametrize("name", OURS)
def test_a_process_of_ours_has_no_privilege_and_writes_nowhere(name):
    service = OURS[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["tmpfs"] == ["/tmp"]


@pytest.mark.parametrize("name", sorted(set(OURS) - {"migrate"}))
def test_a_process_starts_when_the_servers_are_healthy_and_the_tables_are_there(name):
    conditions = {on: how["condition"] for on, how in OURS[name]["depends_on"].items()}
    assert conditions == {
        "postgres": "service_healthy", "redis": "service_healthy", "migrate": "service_completed_successfully",
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"migrate", "beat"}))
def test_a_service_with_a_port_has_a_health_check(name):
    assert SERVICES[name]["healthcheck"]["test"]


def test_a_worker_has_five_seconds_more_than_its_jobs():
    worker = SERVICES["worker"]
    assert seconds(worker["stop_grace_period"]) == int(worker["environment"]["CGK_STOP_GRACE_SECONDS"]) + 5


def test_ports_are_published_on_this_machine_only():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_servers_cannot_be_reached_from_outside():
    assert FILE["networks"]["servers"]["internal"] is True
    assert SERVICES["postgres"]["networks"] == SERVICES["redis"]["networks"] == ["servers"]


def test_files_that_are_mounted_are_there_and_volumes_are_declared():
    mounts = [mount.split(":")[0] for service in SERVICES.values() for mount in service.get("volumes", [])]
    files = {mount for mount in mounts if mount.startswith(".")}
    assert [mount for mount in files if not (FOLDER / mount).is_file()] == []
    assert set(mounts) - files == set(FILE["volumes"])


def test_prometheus_scrapes_the_exporter_and_the_workers_where_they_serve():
    jobs = {job["job_name"]: job for job in yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]}
    exporter, workers = jobs["cgk-exporter"]["static_configs"][0]["targets"], jobs["cgk-workers"]["dns_sd_configs"][0]
    assert exporter == [f"exporter:{SERVICES['exporter']['environment']['CGK_EXPORTER'].rpartition(':')[2]}"]
    assert workers["names"] == ["worker"]
    assert str(workers["port"]) == SERVICES["worker"]["environment"]["CGK_METRICS_ADDRESS"].rpartition(":")[2]
