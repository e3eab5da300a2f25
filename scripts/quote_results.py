"""Quote the figures of benchmarks/RESULTS.md where they are shown, after `make bench`.

In the README some rows of its first table, without budgets, in docs/explanation/performance.md all of it, and pictures
in docs/images.

python scripts/quote_results.py            write them
python scripts/quote_results.py --check    only say whether they are in step; exit 1 if not
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))

from picture import Bar, bars  # noqa: E402 - the folder of the benchmarks is no package

README = ROOT / "README.md"
PAGE = ROOT / "docs" / "explanation" / "performance.md"
IMAGES = ROOT / "docs" / "images"
RESULTS = ROOT / "benchmarks" / "RESULTS.md"

IN_README = (
    "no-op runs, backlog of 3,000, one id a message; plain without results",
    "no-op runs, backlog of 10,000, packets on",
    "runs that write one row, backlog of 8,000, packets on",
    "bulk send of 10,000, packets on",
    "bulk send of 10,000, packets on; plain in a `Producer.batch` of Kombu",
    "one send, p50",
    "lone job, send to start, p50",
    "due run, lateness, p99",
    "one tick for 10,001 tenants",
    "idle worker, memory (PSS), both applications import SQLAlchemy, psycopg and pydantic",
    "worker, start to first job, both applications import SQLAlchemy, psycopg and pydantic",
    "RabbitMQ, quorum queues: no-op runs, backlog of 3,000, one id a message",
)
"""What a reader asks first; where plain Celery is ahead as well."""

OTHERS, SCALE = "Beside other queues", "The shape of the cost"
TABLES = {"others": OTHERS, "steps": "Durable steps", "waiting": "Workflows that wait", "scale": SCALE}
"""Titles in the results by their places on the page."""

_QUOTE = re.compile(r"(<!-- figures: scripts/quote_results.py -->\n).*?(<!-- end of figures -->)", re.DOTALL)
_SECTION = re.compile(
    r"(<!-- figures (\w+): scripts/quote_results.py -->\n).*?(<!-- end of figures \w+ -->)", re.DOTALL
)


def quoted(readme: str, results: str, wanted: tuple[str, ...] = IN_README) -> str:
    """The README with figures of the results: the wanted rows without their budgets, and the machine."""
    machine = re.search(r"^- Machine: (.+)$", results, re.MULTILINE)
    made = re.search(r" on (\d{4}-\d\d-\d\d) in ", results)
    if machine is None or made is None:
        raise SystemExit(f"{RESULTS} does not look like the output of benchmarks/run.py")
    rows = [_cells(line) for line in _sections(results)[""].splitlines() if line.startswith("| ")]
    absent = set(wanted) - {row[0] for row in rows}
    if absent:
        raise SystemExit(f"{RESULTS} has no line for {', '.join(sorted(absent))}: mend IN_README in {__file__}")
    heading, rule = [*rows[0][:4], "better"], [*rows[1][:4], "---"]
    quotes = [[*row[:4], "higher" if row[2].endswith("/s") else "lower"] for row in rows[2:] if row[0] in wanted]
    table = "\n".join(f"| {' | '.join(row)} |" for row in (heading, rule, *quotes))
    return _QUOTE.sub(lambda match: f"{match[1]}{table}\n\n{made[1]}, {machine[1]}\n{match[2]}", readme)


def page(text: str, results: str) -> str:
    """The page about performance with the results in their places."""
    sections = _sections(results)
    first = sections[""].partition("\n| ")
    places = {
        "conditions": first[0].partition("\n\n")[2].strip(),
        "plain": first[1].lstrip("\n") + first[2].strip(),
    } | {place: sections[title].strip() for place, title in TABLES.items() if title in sections}
    return _SECTION.sub(lambda match: f"{match[1]}{places[match[2]]}\n{match[3]}", text)


def pictures(results: str) -> dict[str, str]:
    """SVGs by their file's name."""
    sections = _sections(results)
    others = [
        Bar(system.partition("<br>")[0], (_number(drain), _number(bulk)), _kind(system, guarantees))
        for system, drain, _, bulk, *_, guarantees in _rows(sections[OTHERS])
    ]
    scale = [
        Bar(_name(what), (_number(drain), _number(bulk)), "ours", apart=what.startswith(("1 tenant", "an empty")))
        for what, drain, bulk, *_ in _rows(sections[SCALE])
    ]
    return {
        "performance.svg": bars(
            "Jobs a second, two worker processes",
            "No-ops with the same payload, on the same machine and servers, in one run",
            ("drained from a backlog", "sent in bulk"),
            others,
            (
                ("ours", "cgk_tasks, durable in PostgreSQL"),
                ("durable", "durable in PostgreSQL"),
                ("other", "in Redis only"),
            ),
        ),
        "performance-scale.svg": bars(
            "The same backlog in a larger system",
            "cgk_tasks with two worker processes: open runs, tenants and history that were there before",
            ("drained from a backlog", "sent in bulk"),
            scale,
        ),
    }


def _sections(results: str) -> dict[str, str]:
    """The parts of the results by their title; the first has none."""
    titles = re.split(r"^## (.+)\n", results, flags=re.MULTILINE)
    return {"": titles[0], **dict(zip(titles[1::2], titles[2::2], strict=True))}


def _rows(section: str) -> list[list[str]]:
    return [_cells(line) for line in section.splitlines() if line.startswith("| ")][2:]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def _name(what: str) -> str:
    return what.partition(" waiting")[0].partition(":")[0]


def _number(cell: str) -> float:
    return float(cell.removesuffix("/s").replace(",", ""))


def _kind(system: str, guarantees: str) -> str:
    if system.startswith("cgk_tasks"):
        return "ours"
    return "durable" if guarantees.startswith("Durable") else "other"


def main() -> int:
    results = RESULTS.read_text(encoding="utf-8")
    wanted = {README: quoted(README.read_text(encoding="utf-8"), results)}
    if OTHERS in _sections(results):
        wanted[PAGE] = page(PAGE.read_text(encoding="utf-8"), results)
        wanted |= {IMAGES / name: picture for name, picture in pictures(results).items()}
    behind = [file for file, text in wanted.items() if not file.exists() or file.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        for file in behind:
            print(
                f"{file.relative_to(ROOT)} is not in step with benchmarks/RESULTS.md. Run: python "
                "scripts/quote_results.py"
            )
        return int(bool(behind))
    for file in behind:
        file.parent.mkdir(exist_ok=True)
        file.write_text(wanted[file], encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
