"""What a run tells of itself while it runs: how far it is, and whatever else its job wants to show."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any, Final

from cgk_tasks.config import get_settings
from cgk_tasks.errors import PermanentError
from cgk_tasks.runs.codec import encode
from cgk_tasks.runs.models import Progress
from cgk_tasks.runs.text import text_of

_LONGEST_MESSAGE: Final = 500
_LONGEST_NAME: Final = 200


class RunReport(MutableMapping[str, Any]):
    """Of one attempt. As a mapping, it is the run's metadata: each value is kept as it is when it is set.

    changed: called after each change.
    """

    def __init__(self, changed: Callable[[RunReport], object] | None = None) -> None:
        self._changed = changed
        self._texts: dict[str, str] = {}
        self.progress: Progress | None = None

    def show(self, done: float, total: float | None, message: str) -> None:
        """Raises PermanentError (INVALID_PROGRESS) for what is no amount."""
        for name, value in (("done", done), ("total", 0 if total is None else total)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise PermanentError(
                    f"progress(): {name} is {text_of(value)!r}, which is no amount.",
                    hint="Give numbers from 0: ctx.progress(3, 10), or ctx.progress(3) where no total is known.",
                    code="INVALID_PROGRESS",
                )
        text = text_of(message)[:_LONGEST_MESSAGE]
        self.progress = Progress(float(done), None if total is None else float(total), text, datetime.now(UTC))
        self._tell()

    def recall(self, progress: Progress | None, metadata: Mapping[str, Any]) -> None:
        """Begin with what an earlier attempt has left."""
        self.progress, self._texts = progress, {name: encode(value) for name, value in metadata.items()}

    def metadata(self) -> str:
        """The text of one JSON object."""
        pairs = (f"{json.dumps(name)}: {text}" for name, text in dict(self._texts).items())
        return f"{{{', '.join(pairs)}}}"

    def __setitem__(self, name: str, value: Any) -> None:
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME:
            raise PermanentError(
                f"The name {text_of(name)!r} of metadata is no text of 1 to {_LONGEST_NAME} characters.",
                hint='Name it with a short text: ctx.metadata["file"] = "orders.csv".',
                code="INVALID_METADATA",
            )
        text, limit = encode(value, "Give ctx.metadata"), get_settings().run_metadata_bytes
        others = sum(len(key) + len(kept) for key, kept in self._texts.items() if key != name)
        if others + len(name) + len(text.encode()) > limit:
            raise PermanentError(
                f"With {name!r}, the metadata of this run has more than {limit:,} bytes.",
                hint="Keep in it what people look at while the job runs, or raise CGK_RUN_METADATA_BYTES.",
                code="METADATA_TOO_LARGE",
            )
        self._texts[name] = text
        self._tell()

    def __delitem__(self, name: str) -> None:
        del self._texts[name]
        self._tell()

    def __getitem__(self, name: str) -> Any:
        return json.loads(self._texts[name])

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self._texts))

    def __len__(self) -> int:
        return len(self._texts)

    def __repr__(self) -> str:
        return repr(dict(self))

    def _tell(self) -> None:
        if self._changed is not None:
            self._changed(self)
