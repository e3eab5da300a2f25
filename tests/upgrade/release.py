"""The code of earlier releases, kept under releases/."""

import tarfile
from dataclasses import dataclass
from pathlib import Path

RELEASES = ("0.1.0-5ff1491",)
"""From these one upgrades to the code at hand. Add one: `python scripts/keep_release.py TAG`, and its name here."""

SETTINGS = {"0.1.0-5ff1491": {"CGK_SCHEDULES_NEED_JOBS": "true"}}
"""What a release must be told so that its beat leaves out schedules without a job; later ones find out by
themselves.
"""

FOLDER = Path(__file__).parent / "releases"


@dataclass(frozen=True)
class Release:
    name: str
    code: Path
    """The folder that has its package `cgk_tasks`."""

    @property
    def settings(self) -> dict[str, str]:
        return SETTINGS.get(self.name, {})

    @property
    def sql(self) -> list[Path]:
        return sorted((self.code / "cgk_tasks" / "sql").glob("*.sql"))

    @property
    def migrations(self) -> list[Path]:
        return sorted((self.code / "cgk_tasks" / "migrations" / "versions").glob("*.py"))

    @property
    def revision(self) -> str:
        """Of the schema that it was made for."""
        return self.migrations[-1].name.partition("_")[0]


def unpack(name: str, folder: Path) -> Release:
    with tarfile.open(FOLDER / f"cgk_tasks-{name}.tar.xz") as files:
        files.extractall(folder, filter="data")
    return Release(name, folder)
