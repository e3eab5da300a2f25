"""What libraries raise when a value is odd: too deep, too long, of another type, of letters that they do not know.

Not Exception: a time limit and a cancellation are raised in the job's own thread, as exceptions that must pass.
"""

from __future__ import annotations

from typing import Final

LIBRARY_ERRORS: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,  # RecursionError too
    SyntaxError,
    TypeError,
    ValueError,  # UnicodeError too
)
