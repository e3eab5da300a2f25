"""A contract for import-linter: no circle of imports among the modules of the package, however long.

Its own `acyclic_siblings` compares what lies in one folder, and takes each folder in it for one module. A circle
between a package's `__init__` and a module in it is seen here alone.
"""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

import grimp
from importlinter import Contract, ContractCheck, output


class AcyclicModules(Contract):
    """Has no options. An import inside a function, or for type checkers alone, is an import like any other."""

    def check(self, graph: grimp.ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002 - the base class's
        imports = {module: sorted(graph.find_modules_directly_imported_by(module)) for module in sorted(graph.modules)}
        try:
            TopologicalSorter(imports).prepare()
        except CycleError as exc:
            circle = list(reversed(exc.args[1]))
            return ContractCheck(kept=False, metadata={"circle": [_line(graph, *pair) for pair in pairwise(circle)]})
        return ContractCheck(kept=True)

    def render_broken_contract(self, check: ContractCheck) -> None:
        output.print_error("These modules import each other:")
        for line in check.metadata["circle"]:
            output.print_error(f"- {line}", bold=False)


def _line(graph: grimp.ImportGraph, importer: str, imported: str) -> str:
    details = graph.get_import_details(importer=importer, imported=imported)
    return f"{importer} imports {imported} (line {', '.join(str(one['line_number']) for one in details)})"
