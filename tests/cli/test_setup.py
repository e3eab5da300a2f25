"""`cgk-tasks setup jobs`: the real program at a real terminal, and in scripts."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pexpect
import psutil
import psycopg
import pytest

from cgk_tasks.config.encryption_keys import key_bytes, new_key
from tests.support.rabbitmq import RabbitServer, find_rabbitmq
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
COMMAND = ["-m", "cgk_tasks.cli", "setup", "jobs"]
PASSWORD = "open-sesame"


class Folder:
    """A working folder, and the program in it."""

    def __init__(self, path):
        self.path = path
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CGK_", "JOB"))}
        self._env = {**kept, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "TERM": "dumb"}

    def write(self, name, text):
        (self.path / name).write_text(text)

    def read(self, name):
        return (self.path / name).read_text()

    def names(self):
        return {path.name for path in self.path.iterdir()} - {"__pycache__"}

    def run(self, *options, **env):
        """In a script: nobody answers. Colon: the other spelling."""
        return subprocess.run(
            [sys.executable, *COMMAND, *options], cwd=self.path, env=self._env | env, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    def terminal(self, *command, **env):
        """At a terminal: answer what is asked."""
        return pexpect.spawn(
            sys.executable, list(command or COMMAND), cwd=self.path, env=self._env | env, encoding="utf-8",
            timeout=300, dimensions=(50, 200),
        )  # fmt: skip

    def processes(self):
        """What runs here or for this folder."""
        return [one.pid for one in psutil.process_iter() if _belongs(one, str(self.path))]


def _belongs(process, folder):
    try:
        return process.cwd().startswith(folder) or any(folder in word for word in process.cmdline())
    except psutil.Error:
        return False


def ended(terminal):
    """The exit code, and what was shown since the last question."""
    terminal.expect(pexpect.EOF)
    terminal.close()
    return terminal.exitstatus, terminal.before


def made_key(text):
    """The text of an env file without the line of its key, and the key."""
    (line,) = [line for line in text.splitlines(keepends=True) if line.startswith("CGK_ENCRYPTION_KEYS=")]
    key_bytes(key := line.partition("=")[2].strip())
    return text.replace(line, ""), key


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


@pytest.fixture(scope="module")
def servers(services):
    """The settings of own servers: a database of this module, and a Redis with a password."""
    with psycopg.connect(services.database_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE setup_tests")
    return {
        "CGK_DATABASE_URL": services.database_url.replace("/cgk?", "/setup_tests?"),
        "CGK_BROKER_URL": services.broker_url,
    }


@pytest.fixture
def configured(folder, servers):
    folder.write(".env.local", "".join(f"{name}='{url}'\n" for name, url in servers.items()))
    return folder


# ---- at a terminal --------------------------------------------------------------------------------------------------


def test_enter_alone_leads_from_nothing_to_a_job_that_has_run(folder):
    terminal = folder.terminal("-m", "cgk_tasks.cli", "setup:jobs")
    terminal.expect(r"Provider .*\(celery\):")
    terminal.sendline("")
    terminal.expect(r"Servers .*\(private\):")
    terminal.sendline("")
    code, shown = ended(terminal)
    assert code == 0, shown
    assert "Hello world, from platform" in shown
    assert "No living worker" not in shown
    assert folder.names() == {".env.local", ".cgk", "jobs.py", "celeryconfig.py"}
    assert folder.read(".env.local") == "JOBS_PROVIDER=celery\nCGK_JOB_MODULES=jobs\n"
    assert stat.S_IMODE((folder.path / ".env.local").stat().st_mode) == 0o600
    assert folder.processes() == []

    again, shown = ended(folder.terminal())
    assert (again, "Provider" in shown) == (0, False)
    assert folder.run("--verify-only").returncode == 0


def test_a_wrong_password_is_asked_for_again_kept_secret_and_written(folder, servers):
    right = servers["CGK_BROKER_URL"]
    secret = right.partition("://:")[2].partition("@")[0]
    before = "# our servers\nexport CGK_BROKER_URL={} # Redis\nOTHER=1\nCGK_DATABASE_URL='{}'\n"
    folder.write(".env.local", before.format(right.replace(secret, PASSWORD), servers["CGK_DATABASE_URL"]))
    terminal = folder.terminal()
    terminal.expect(r"Change CGK_BROKER_URL \(from .env.local\)\?")
    shown = terminal.before
    terminal.sendline("y")
    terminal.expect("Another password")
    shown += terminal.before
    terminal.waitnoecho()
    terminal.sendline(secret)
    code, rest = ended(terminal)
    shown += rest
    assert code == 0, shown
    assert secret not in shown
    assert PASSWORD not in shown
    after, key = made_key(folder.read(".env.local"))
    assert after == before.format(right, servers["CGK_DATABASE_URL"]) + "CGK_JOB_MODULES=jobs\n"
    assert key not in shown


def test_a_server_that_is_not_there_can_be_replaced_by_another(folder, servers):
    terminal = folder.terminal(CGK_BROKER_URL=servers["CGK_BROKER_URL"])
    terminal.expect("Provider")
    terminal.sendline("celery")
    terminal.expect("URL of the PostgreSQL")
    terminal.sendline(f"postgresql://app:{PASSWORD}@127.0.0.1:1/shop")
    terminal.expect("PostgreSQL cannot be reached.*Change CGK_DATABASE_URL")
    terminal.sendline("y")
    terminal.expect_exact("(postgresql://app:***@127.0.0.1:1/shop)")
    terminal.sendline(servers["CGK_DATABASE_URL"])
    code, shown = ended(terminal)
    assert code == 0, shown
    assert f"CGK_DATABASE_URL='{servers['CGK_DATABASE_URL']}'" in folder.read(".env.local")


def test_ctrl_c_at_a_question_leaves_the_folder_as_it_was(folder):
    terminal = folder.terminal()
    terminal.expect("Provider")
    terminal.sendline("")
    terminal.expect("Servers")
    terminal.sendcontrol("c")
    assert ended(terminal)[0] == 130
    assert folder.names() == set()


@pytest.mark.parametrize("moment", ["Starting a private", "Sending hello.said"])
def test_ctrl_c_later_leaves_whole_files_and_no_process(folder, moment):
    folder.write(".env.local", "JOBS_PROVIDER=celery\n")
    terminal = folder.terminal()
    terminal.expect("Servers")
    terminal.sendline("")
    terminal.expect(moment)
    terminal.sendcontrol("c")
    assert ended(terminal)[0] == 130
    assert folder.read(".env.local") == "JOBS_PROVIDER=celery\nCGK_JOB_MODULES=jobs\n"
    compile(folder.read("jobs.py"), "jobs.py", "exec")
    wait_until(lambda: not folder.processes(), 20, "every process has ended")


# ---- in scripts -----------------------------------------------------------------------------------------------------


def test_servers_of_the_environment_are_used_and_not_written(folder, servers):
    done = folder.run("--non-interactive", **servers)
    assert done.returncode == 0, done.stderr
    assert "completed" in done.stdout
    assert made_key(folder.read(".env.local"))[0] == "CGK_JOB_MODULES=jobs\n"


@pytest.mark.skipif(find_rabbitmq() is None, reason="needs rabbitmq-server")
def test_rabbitmq_can_be_the_broker(folder, servers):
    rabbit = RabbitServer(find_rabbitmq())
    try:
        done = folder.run("--non-interactive", **servers | {"CGK_BROKER_URL": rabbit.url})
        assert done.returncode == 0, done.stderr
        assert "completed" in done.stdout
    finally:
        rabbit.close()


def test_skip_env_leaves_the_file_alone(configured):
    before = configured.read(".env.local")
    done = configured.run("--non-interactive", "--skip-env")
    assert done.returncode == 0, done.stderr
    assert configured.read(".env.local") == before
    assert "Set in the environment: CGK_ENCRYPTION_KEYS, CGK_JOB_MODULES" in done.stderr


def test_a_key_that_is_there_is_kept_and_none_is_made_for_secrets_that_need_another(configured, servers):
    key = new_key()
    configured.write(".env.local", f"{configured.read('.env.local')}CGK_ENCRYPTION_KEYS={key}\n")
    assert configured.run("--non-interactive").returncode == 0
    assert made_key(configured.read(".env.local"))[1] == key

    with psycopg.connect(servers["CGK_DATABASE_URL"], autocommit=True) as connection:
        connection.execute(
            "INSERT INTO cgk.tenant_settings (tenant_id, name, value) VALUES ('platform', 'smtp_url', "
            "'sealed:1:1a2b3c4d:x')"
        )
        try:
            configured.write(".env.local", configured.read(".env.local").replace(f"CGK_ENCRYPTION_KEYS={key}\n", ""))
            done = configured.run("--non-interactive")
        finally:
            connection.execute("DELETE FROM cgk.tenant_settings")
    assert "secrets that need the key 1a2b3c4d" in done.stderr
    assert "CGK_ENCRYPTION_KEYS" not in configured.read(".env.local")


def test_the_local_provider_needs_no_server(folder):
    done = folder.run("--non-interactive", "--provider", "local")
    assert done.returncode == 0, done.stderr
    assert "Hello world, from platform" in done.stdout
    assert folder.names() == {".env.local", "jobs.py"}


@pytest.mark.parametrize(
    ("settings", "code", "says"),
    [
        ({"JOBS_PROVIDER": "sidekiq"}, 3, "JOBS_PROVIDER in .env.local: There is no provider 'sidekiq'."),
        ({"CGK_DISPATCH_BATCH": "many"}, 3, "CGK_DISPATCH_BATCH"),
        ({"CGK_DATABASE_URL": "mysql://h/d", "CGK_BROKER_URL": "redis://h"}, 4, "not a URL of a PostgreSQL"),
        ({"CGK_DATABASE_URL": "postgresql://u@127.0.0.1:1/d", "CGK_BROKER_URL": "redis://h"}, 4, "refused"),
        ({"CGK_DATABASE_URL": "postgresql://u:a/b@h/d", "CGK_BROKER_URL": "redis://h"}, 4, "port is not a number"),
    ],
)
def test_what_is_wrong_with_the_settings_is_said_and_nothing_is_written(folder, settings, code, says):
    text = "".join(f"{name}={value}\n" for name, value in settings.items())
    folder.write(".env.local", text)
    done = folder.run("--non-interactive")
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert folder.read(".env.local") == text
    assert folder.names() == {".env.local"}


def test_a_missing_broker_is_named(folder, servers):
    done = folder.run("--non-interactive", CGK_DATABASE_URL=servers["CGK_DATABASE_URL"])
    assert done.returncode == 3
    assert "Set CGK_BROKER_URL." in done.stderr


def test_without_a_terminal_a_question_is_an_error_that_says_so(folder):
    done = folder.run()
    assert done.returncode == 3
    assert "Use --non-interactive." in done.stderr


def test_verifying_an_empty_folder_makes_nothing(folder):
    assert folder.run("--verify-only").returncode == 3
    assert folder.names() == set()


def test_verifying_says_that_tables_are_missing_and_makes_none(folder, services, servers):
    with psycopg.connect(services.database_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE setup_empty")
    empty = servers | {"CGK_DATABASE_URL": services.database_url.replace("/cgk?", "/setup_empty?")}
    done = folder.run("--verify-only", **empty)
    assert done.returncode == 4, done.stderr
    assert "Run: cgk-tasks migrate" in done.stderr


def test_a_module_without_jobs_gets_one_at_its_end(configured):
    configured.write("jobs.py", "ANSWER = 42\n")
    done = configured.run("--non-interactive")
    assert done.returncode == 0, done.stderr
    assert configured.read("jobs.py").startswith("ANSWER = 42\n\n\nfrom cgk_tasks import JobContext, define_job\n")
    assert "Hello world" in done.stdout


def test_an_application_with_jobs_is_left_as_it_is_and_tried_with_a_job_of_ours(configured):
    text = "from cgk_tasks import define_job\n\n@define_job('a', event='order.created')\ndef a(ctx): ...\n"
    configured.write("shop.py", text)
    configured.write("celeryconfig.py", "worker_concurrency = 1\n")
    done = configured.run("--non-interactive", CGK_JOB_MODULES="shop")
    assert done.returncode == 0, done.stderr
    assert configured.read("shop.py") == text
    assert configured.read("celeryconfig.py") == "worker_concurrency = 1\n"
    assert "A worker ran this for the tenant platform." in done.stdout


def test_a_module_that_cannot_be_imported_is_reported(configured):
    configured.write("jobs.py", "from cgk_tasks import define_job\nimport no_such_module\n")
    done = configured.run("--non-interactive")
    assert done.returncode == 3
    assert "no_such_module" in done.stderr


def test_a_run_that_fails_is_shown_with_its_error(configured):
    configured.run("--non-interactive", "--provider", "celery")
    text = configured.read("jobs.py").replace("    return f", "    raise ValueError('broken')\n    return f")
    configured.write("jobs.py",
    text.replace("define_job(", "define_job(retry=RetryConfig(max_attempts=1), job_id=").replace(
        "import JobContext", "import JobContext, RetryConfig"
    ))  # fmt: skip
    done = configured.run("--verify-only")
    assert done.returncode == 5, done.stderr
    assert "broken" in done.stdout


def test_misspelt_names_in_the_file_are_pointed_out(configured):
    configured.write(".env.local", f"{configured.read('.env.local')}CGK_JOB_MODULE=shop\n")
    done = configured.run("--non-interactive")
    assert "CGK_JOB_MODULE in .env.local is not a setting, and is ignored. Did you mean CGK_JOB_MODULES?" in done.stderr
