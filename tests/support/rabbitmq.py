"""A private RabbitMQ: its own node name, ports, folders and port mapper, on loopback only."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

import psutil

from tests.support.waiting import wait_until

# The script itself and not the one in /usr/sbin, which changes to the user rabbitmq and to that user's folders.
_SCRIPTS = ("/usr/lib/rabbitmq/bin/rabbitmq-server", "/opt/homebrew/sbin/rabbitmq-server")


def find_rabbitmq() -> str | None:
    """The path of `rabbitmq-server`, or None."""
    here = next((path for path in _SCRIPTS if os.access(path, os.X_OK)), None)
    path = here or shutil.which("rabbitmq-server")
    return path if shutil.which("epmd") else None


class RabbitServer:
    """Started at once. `stop` and `kill` keep its data and address, so that `start` goes on from there."""

    def __init__(self, program: str, certificates: Path | None = None) -> None:
        """certificates: a folder with ca.pem, server.pem and server.key, for a port with TLS as well."""
        self._program = program
        self._folder = Path(tempfile.mkdtemp(prefix="cgk-rabbit-"))
        (self._folder / "plugins").write_text("[].\n")
        self._log = self._folder / "server.log"
        self._port, self._distribution_port, self._mapper_port, self.tls_port = free_ports(4)
        if certificates is not None:
            (self._folder / "rabbitmq.conf").write_text(
                f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}\n"
                f"ssl_options.cacertfile = {certificates / 'ca.pem'}\n"
                f"ssl_options.certfile = {certificates / 'server.pem'}\n"
                f"ssl_options.keyfile = {certificates / 'server.key'}\n"
                "ssl_options.verify = verify_none\nssl_options.fail_if_no_peer_cert = false\n"
            )
        self._mapper = self._run(["epmd", "-address", "127.0.0.1", "-port", str(self._mapper_port)])
        self._server: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self._port}//"

    @property
    def running(self) -> bool:
        return self._server is not None and self._server.poll() is None

    def start(self) -> None:
        if self.running:
            return
        begun = self._log.stat().st_size
        self._server = self._run([self._program])

        def is_up() -> bool:
            if not self.running:
                raise AssertionError(f"RabbitMQ did not start:\n{self._log.read_text()[-3000:]}")
            return b"Server startup complete" in self._log.read_bytes()[begun:]

        wait_until(is_up, 60, "RabbitMQ started")

    def stop(self) -> None:
        """In order: messages and queues are on disk."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self._server is None:
            return
        for process in _tree(self._server.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                if how == signal.SIGKILL or process.name().startswith("beam"):
                    process.send_signal(how)
        self._server.wait(30)
        self._server = None

    def close(self) -> None:
        self.kill()
        self._mapper.kill()
        self._mapper.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, command: list[str]) -> subprocess.Popen[bytes]:
        env = {name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))} | {
            "HOME": str(self._folder),  # of the Erlang cookie
            "ERL_EPMD_PORT": str(self._mapper_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"cgk-{self._port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self._port),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_MNESIA_BASE": str(self._folder / "data"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(self._folder / "rabbitmq"),
            "RABBITMQ_CONF_ENV_FILE": str(self._folder / "none-env"),
            "RABBITMQ_PID_FILE": str(self._folder / "pid"),
        }
        with self._log.open("ab") as log:
            return subprocess.Popen(
                command, env=env, cwd=self._folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip


def _tree(pid: int) -> list[psutil.Process]:
    main = psutil.Process(pid)
    return [*main.children(recursive=True), main]


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses now."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports
