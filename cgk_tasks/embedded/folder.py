"""The folder of the private servers: its lock, and its note on who owns the servers."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from cgk_tasks.config import private_servers
from cgk_tasks.config.encryption_keys import new_key
from cgk_tasks.config.private_servers import State
from cgk_tasks.embedded import processes
from cgk_tasks.errors import EmbeddedError

DEFAULT = private_servers.FOLDER


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
        return private_servers.read_key(self.path)

    def read(self) -> State | None:
        """The state, whether or not its owner lives; None without one."""
        return private_servers.read_state(self.path)

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
        return self.path / private_servers.KEY_FILE

    @property
    def _state_file(self) -> Path:
        return self.path / processes.STATE_FILE
