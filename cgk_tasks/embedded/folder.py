"""The folder of the private servers: its lock, and its note on who owns the servers."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cgk_tasks.embedded import processes
from cgk_tasks.encryption_keys import new_key
from cgk_tasks.errors import EmbeddedError

DEFAULT = Path(".cgk")

_CLOCK_SLACK_SECONDS = 2.0  # the system's figure for a process's start moves a little with its clock


@dataclass
class State:
    """What ``services.json`` says while the servers have an owner.

    home, socket_folder: PostgreSQL's, absent without it. data_folders: where server processes may be found.
    remove: what goes with the servers. pids: as they were at the start, for people who look.
    """

    owner_pid: int
    owner_started_at: float | None
    home: str | None
    socket_folder: str | None
    redis: bool
    data_folders: list[str]
    remove: list[str]
    database_url: str | None = None
    broker_url: str | None = None
    pids: dict[str, int | None] = field(default_factory=dict)

    def is_owned(self) -> bool:
        """Whether the process that started the servers still lives."""
        started_at = processes.started_at(self.owner_pid)
        return (
            started_at is not None
            and self.owner_started_at is not None
            and abs(started_at - self.owner_started_at) < _CLOCK_SLACK_SECONDS
        )


class ServicesFolder:
    """Where the servers of one application keep their data, logs and addresses."""

    def __init__(self, path: Path) -> None:
        # Resolved, because the system tells a process's working folder without symbolic links.
        self.path = path.resolve()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only process that starts or stops servers here. Makes the folder, invisible to git, if missing.

        Raises EmbeddedError when another process keeps the lock for 60 seconds.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        ignore = self.path / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(processes.locked(self.path))
            except TimeoutError as error:
                raise EmbeddedError(f"{error}.", hint="Is another start hanging? End it and try again.") from error
            yield

    def log(self, name: str) -> Path:
        logs = self.path / "logs"
        logs.mkdir(exist_ok=True)
        return logs / f"{name}.log"

    def make_key(self) -> None:
        """Keep a key for the secrets in this folder's database, readable for this user only. Needs the lock."""
        if not self._key_file.exists():
            draft = self._key_file.with_suffix(".new")
            draft.touch(mode=0o600)
            draft.write_text(new_key())
            draft.rename(self._key_file)

    def key(self) -> str | None:
        """The key; None where the servers were started by a version that made none."""
        return self._key_file.read_text().strip() if self._key_file.exists() else None

    def read(self) -> State | None:
        """The state, whether or not its owner lives; None without one."""
        try:
            return State(**json.loads(self._state_file.read_text()))
        except (
            FileNotFoundError,
            ValueError,
            TypeError,
        ):  # none, cut off by a full disk, or of an older version
            return None

    def write(self, state: State) -> None:
        """Put the state in place, whole, and readable for this user only: it holds the password of Redis."""
        draft = self._state_file.with_suffix(".new")
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(asdict(state), indent=2))
        draft.rename(self._state_file)

    def forget(self, state: State) -> None:
        """Remove the state and what goes with the servers."""
        self._state_file.unlink(missing_ok=True)
        processes.remove(state.remove)

    @property
    def _key_file(self) -> Path:
        return self.path / "encryption-key"

    @property
    def _state_file(self) -> Path:
        return self.path / processes.STATE_FILE
