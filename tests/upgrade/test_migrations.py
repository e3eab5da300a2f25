"""What migrations may do: an earlier release goes on working on the schema of a later one.

During an upgrade old and new processes share the database, and an upgrade may be rolled back while the schema stays.
So a migration only adds: what a release may leave behind is removed by a later one, when no code uses it any more.
"""

import ast
from pathlib import Path

from alembic.script import ScriptDirectory

from cgk_tasks import migrations
from tests.upgrade import schema
from tests.upgrade.prepared import prepared_statements
from tests.upgrade.release import Release

CURRENT = Path(migrations.__file__).parent / "versions"


FINISHING = {"0014"}
"""Migrations that remove what only an earlier release needs: `cgk-tasks migrate --finish` applies them, once no process
of it is there any more.
"""

WIDENED: dict[str, str] = {}
"""Constraints that a migration replaced by one that accepts all that the old one did: the name, and the revision."""


def later_revisions(release: Release) -> list[str]:
    """Of the code at hand, after that of the release, in their order: those that both may meet."""
    names = sorted(path.name.partition("_")[0] for path in CURRENT.glob("*.py"))
    end = min((name for name in FINISHING if name > release.revision), default="9999")
    return [name for name in names if release.revision < name < end]


def test_each_migration_follows_the_one_before_it():
    numbers = sorted(path.name.partition("_")[0] for path in CURRENT.glob("*.py"))
    scripts = ScriptDirectory(str(CURRENT.parent)).walk_revisions()
    follows = {script.revision: script.down_revision for script in scripts}
    assert follows == dict(zip(numbers, [None, *numbers[:-1]], strict=True))


def test_migrations_of_a_release_do_not_change_afterwards(release):
    for path in release.migrations:
        assert effect(CURRENT / path.name) == effect(path), f"{path.name} has been released; write a new migration"


def effect(path: Path) -> str:
    """The file as Python reads it: comments and layout aside."""
    return ast.dump(ast.parse(path.read_text()))


def test_each_later_migration_only_adds(release, database):
    migrations.migrate(release.revision)
    before = schema.read(database)
    for revision in later_revisions(release):
        migrations.migrate(revision)
        after = schema.read(database)
        widened = [name for name, since in WIDENED.items() if since <= revision]
        changes = schema.breaking_changes(before, after)
        assert [change for change in changes if not set(widened) & set(change.split())] == [], f"migration {revision}"


def test_every_statement_of_a_release_is_accepted_on_each_later_schema(release, database):
    migrations.migrate(release.revision)
    before = prepared_statements(release, database)
    refused = {name: answer for name, answer in before.items() if isinstance(answer, str)}
    assert (refused, len(before) > 150) == ({}, True)
    for revision in later_revisions(release):
        migrations.migrate(revision)
        after = prepared_statements(release, database)
        changed = {name: answer for name, answer in after.items() if answer != before[name]}
        assert changed == {}, f"migration {revision}"
