"""Quote the figures of benchmarks/RESULTS.md in the README, after `make bench`.

python scripts/quote_results.py            write them
python scripts/quote_results.py --check    only say whether they are in step; exit 1 if not
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "RESULTS.md"

_QUOTE = re.compile(r"(<!-- figures: scripts/quote_results.py -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def quoted(readme: str, results: str) -> str:
    """The README with the figures of the results: each row without its budget, and the machine."""
    machine = re.search(r"^- Machine: (.+)$", results, re.MULTILINE)
    made = re.search(r" on (\d{4}-\d\d-\d\d) in ", results)
    if machine is None or made is None:
        raise SystemExit(f"{RESULTS} does not look like the output of benchmarks/run.py")
    rows = [_cells(line) for line in results.splitlines() if line.startswith("| ")]
    table = "\n".join(f"| {' | '.join(row[:4])} |" for row in rows)
    return _QUOTE.sub(lambda match: f"{match[1]}{table}\n\n{made[1]}, {machine[1]}\n{match[2]}", readme)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def main() -> int:
    before = README.read_text(encoding="utf-8")
    after = quoted(before, RESULTS.read_text(encoding="utf-8"))
    if "--check" in sys.argv[1:]:
        if before != after:
            print("README.md quotes other figures than benchmarks/RESULTS.md. Run: python scripts/quote_results.py")
        return int(before != after)
    README.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
