"""What the schema `cgk` consists of, and which changes to it an earlier release would not survive."""

from dataclasses import dataclass

import psycopg

COLUMNS = """
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
       a.atthasdef OR a.attidentity <> ''
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
 WHERE c.relnamespace = 'cgk'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm') AND NOT c.relispartition
   AND a.attnum > 0 AND NOT a.attisdropped
"""
CONSTRAINTS = """
SELECT c.relname, k.conname, pg_get_constraintdef(k.oid)
  FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
 WHERE c.relnamespace = 'cgk'::regnamespace AND NOT c.relispartition AND k.contype IN ('c', 'u', 'p', 'f', 'x')
UNION ALL
SELECT t.relname, c.relname, pg_get_indexdef(i.indexrelid)
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
 WHERE t.relnamespace = 'cgk'::regnamespace AND NOT t.relispartition AND i.indisunique
   AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)
"""
FUNCTIONS = """
SELECT oid::regprocedure::text, pg_get_function_result(oid) FROM pg_proc WHERE pronamespace = 'cgk'::regnamespace
"""


@dataclass(frozen=True)
class Column:
    type: str
    is_required: bool
    has_default: bool


@dataclass(frozen=True)
class Schema:
    columns: dict[tuple[str, str], Column]
    """By table (or view) and name."""
    constraints: dict[tuple[str, str], str]
    """Of rows: checks, keys, unique indexes, by table and name."""
    functions: dict[str, str]

    @property
    def tables(self) -> set[str]:
        return {table for table, _ in self.columns}


def read(url: str) -> Schema:
    with psycopg.connect(url, autocommit=True) as connection:
        columns = connection.execute(COLUMNS).fetchall()
        constraints = connection.execute(CONSTRAINTS).fetchall()
        functions = connection.execute(FUNCTIONS).fetchall()
    return Schema(
        {(table, name): Column(*rest) for table, name, *rest in columns},
        {(table, name): text for table, name, text in constraints},
        dict(functions),
    )


def breaking_changes(before: Schema, after: Schema) -> list[str]:
    """What is gone, has another type, or asks for more than before, of tables that were there before."""
    return [*_of_columns(before, after), *_of_constraints(before, after), *_of_functions(before, after)]


def _of_columns(before: Schema, after: Schema) -> list[str]:
    found = []
    for (table, name), column in before.columns.items():
        now = after.columns.get((table, name))
        if now is None:
            found.append(f"{table}.{name} is gone")
        elif now.type != column.type:
            found.append(f"{table}.{name} was {column.type} and is {now.type}")
        elif now.is_required and not column.is_required:
            found.append(f"{table}.{name} became NOT NULL")
        elif column.has_default and not now.has_default:
            found.append(f"{table}.{name} lost its default")
    for (table, name), column in after.columns.items():
        is_added = table in before.tables and (table, name) not in before.columns
        if is_added and column.is_required and not column.has_default:
            found.append(f"{table}.{name} was added NOT NULL without a default")
    return found


def _of_constraints(before: Schema, after: Schema) -> list[str]:
    """A check may be dropped, a key may not: ON CONFLICT needs it. A new one may refuse what the earlier release
    writes.
    """
    found = []
    for (table, name), text in after.constraints.items():
        if table in before.tables and before.constraints.get((table, name)) != text:
            found.append(f"{table} has a new constraint: {name} {text}")
    for (table, name), text in before.constraints.items():
        if (table, name) not in after.constraints and "UNIQUE" in text.upper().replace("PRIMARY KEY", "UNIQUE"):
            found.append(f"{table} lost {name} {text}")
    return found


def _of_functions(before: Schema, after: Schema) -> list[str]:
    return [f"{name} is gone, or returns something else" for name, result in before.functions.items()
            if after.functions.get(name) != result]  # fmt: skip
