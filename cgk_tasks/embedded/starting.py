"""Starting private servers and finding those that run."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from cgk_tasks.config.private_servers import State
from cgk_tasks.embedded import account, processes
from cgk_tasks.embedded.folder import DEFAULT, ServicesFolder
from cgk_tasks.embedded.postgres_server import socket_folder
from cgk_tasks.embedded.services import Services
from cgk_tasks.errors import EmbeddedError


def start(folder: Path | None = None, *, postgres: bool = True, redis: bool = True) -> Services:
    """Start the private servers of a folder and own them: they stop when this process ends, however it ends.

    folder: where the data is kept between starts; ``.cgk`` in the working folder by default. Servers that a
    killed process left behind there are stopped first. Raises EmbeddedError when a living process owns the
    folder's servers, when the extra ``embedded`` is missing, and when a server does not start.
    """
    _require_extra()
    return _start(ServicesFolder(folder or DEFAULT), postgres=postgres, redis=redis, durable=True)


def temporary(*, postgres: bool = True, redis: bool = True) -> Services:
    """Start fresh private servers in a temporary folder that is removed with them. For tests: without fsync."""
    _require_extra()
    place = ServicesFolder(Path(tempfile.mkdtemp(prefix="cgk-")))
    place.path.chmod(0o711)  # root's PostgreSQL runs as another user; the folders inside are closed
    try:
        return _start(place, postgres=postgres, redis=redis, durable=False)
    except BaseException:
        processes.remove([place.path])
        raise


def find(folder: Path | None = None) -> Services | None:
    """The servers of a folder that a living process has started; None if there are none.

    One that has ended since is still theirs, at the same address: `running` tells. The result does not own them:
    closing it does nothing. Raises EmbeddedError when they are another user's.
    """
    _require_extra()
    place = ServicesFolder(folder or DEFAULT)
    with _system_errors_explained(place.path):
        state = place.read()
        if state is None or not state.pids or not state.is_owned():
            return None
        return Services.of(place, state)


def _start(place: ServicesFolder, *, postgres: bool, redis: bool, durable: bool) -> Services:
    with _system_errors_explained(place.path), place.locked():
        state = place.read()
        if state is not None and state.is_owned():
            raise EmbeddedError(
                f"The private servers in {place.path} are running and belong to process {state.owner_pid}.",
                hint="Use them through embedded.find(), or stop that process.",
            )
        home = account.postgres_home(place.path)
        state = _new_state(place, home, postgres=postgres, redis=redis, durable=durable)
        processes.stop(*map(Path, state.data_folders))  # what a killed owner has left running
        if postgres:
            account.prepare_home(home, place.path)
        services = Services.of(place, state, durable=durable)
        try:
            services.launch()
        except BaseException:
            services.shut_down()
            raise
        return services


def _new_state(place: ServicesFolder, home: Path, *, postgres: bool, redis: bool, durable: bool) -> State:
    sockets = socket_folder(home)
    remove = [str(sockets)] if postgres else []
    if not durable:
        remove += [str(place.path)] if home == place.path else [str(place.path), str(home)]
    return State(
        owner_pid=os.getpid(),
        owner_started_at=processes.started_at(os.getpid()),
        home=str(home) if postgres else None,
        socket_folder=str(sockets) if postgres else None,
        redis=redis,
        data_folders=[str(home / "postgres"), str(home / "postgres.new"), str(place.path / "redis")],
        remove=remove,
    )


def _require_extra() -> None:
    # The servers' own programs are looked for when they start; psutil comes with them.
    if find_spec("psutil") is None:
        raise EmbeddedError("The private servers are not installed.", hint=f"Install them: {account.INSTALL_HINT}")


@contextlib.contextmanager
def _system_errors_explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise EmbeddedError(
            f"{error.filename or folder} belongs to another user.",
            hint="Run as that user, or use a folder of your own.",
        ) from error
    except OSError as error:
        raise EmbeddedError(f"The private servers in {folder} cannot be used: {error}") from error
