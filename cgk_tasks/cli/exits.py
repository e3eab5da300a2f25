"""Exit codes, the same for every command."""

from typing import Final

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
"""Wrong usage: an unknown option, a value that cannot be read. Typer exits with it by itself."""
