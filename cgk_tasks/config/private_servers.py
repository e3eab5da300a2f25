"""The note of the private servers that run for a folder, `.cgk/services.json`, as the settings read it.

`cgk_tasks.embedded` writes it. Settings are read before anything else, so they do not import the servers.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cgk_tasks.errors import EmbeddedError

FOLDER: Final = Path(".cgk")
STATE_FILE: Final = "services.json"
KEY_FILE: Final = "encryption-key"

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
        import psutil  # type: ignore[import-untyped]  # the extra `embedded`

        with suppress(psutil.Error):
            owner = psutil.Process(self.owner_pid)
            return (
                owner.status() != psutil.STATUS_ZOMBIE
                and self.owner_started_at is not None
                and abs(owner.create_time() - self.owner_started_at) < _CLOCK_SLACK_SECONDS
            )
        return False


def read_state(folder: Path) -> State | None:
    """The note, whether or not the servers' owner lives; None without one, or with one of another version."""
    try:
        return State(**json.loads((folder / STATE_FILE).read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def read_key(folder: Path) -> str | None:
    """The key for the secrets in this folder's database; None where the servers were started by a version that made
    none.
    """
    file = folder / KEY_FILE
    return file.read_text().strip() if file.exists() else None


def found_settings(folder: Path = FOLDER) -> dict[str, str]:
    """The settings that lead to the servers that a living process has started here; none without them. Raises
    EmbeddedError.
    """
    try:
        state = read_state(folder)
        if state is None or not state.pids or not state.is_owned():
            return {}
        found = {
            "database_url": state.database_url,
            "broker_url": state.broker_url,
            "encryption_keys": read_key(folder),
        }
    except PermissionError as exc:
        raise EmbeddedError(
            f"{exc.filename or folder} belongs to another user. Run as that user, or use a folder of your own."
        ) from exc
    except ImportError:
        raise EmbeddedError(
            f"Private servers run in {folder.resolve()}, and to find them this process needs the extra: "
            "pip install 'cgk-tasks[embedded]'"
        ) from None
    return {name: value for name, value in found.items() if value}
