"""What the sandbox keeps: responses that it was asked to store. A file each, beside the database of the daemon, so that
all of its workers, and the next start, know them: a provider does not forget because its client starts anew."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from .wire import is_id

KEPT_S: Final = 86_400
SWEEP_EVERY: Final = 100  # of what is put

End = Literal["cancelled", "streamed"]


class Record(msgspec.Struct):
    """One response, and what it takes to tell it again: the same turns make the same answer."""

    shell: dict[str, Any]  # the response object before there is an answer in it
    item_id: str
    turns: list[tuple[str, list[str]]]  # role and texts, those of the response before included
    tools: list[str]
    items: list[dict[str, Any]]  # its input
    output_tokens_max: int | None
    started_at_s: float

    @property
    def background(self) -> bool:
        return bool(self.shell["background"])


_RECORD: Final = msgspec.json.Decoder(Record)


class Shelf:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._puts = 0

    def open(self) -> None:
        self._directory.mkdir(mode=0o700, exist_ok=True)

    def put(self, record: Record) -> None:
        if self._puts % SWEEP_EVERY == 0:
            self._sweep()
        self._puts += 1
        path = self._path(record.shell["id"])
        written = path.with_suffix(".new")
        written.touch(mode=0o600)
        written.write_bytes(msgspec.json.encode(record))
        written.replace(path)

    def get(self, response_id: str) -> Record | None:
        if not is_id(response_id):
            return None
        try:
            return _RECORD.decode(self._path(response_id).read_bytes())
        except FileNotFoundError:
            return None

    def mark(self, response_id: str, end: End) -> None:
        """How one in the background ended, if not by the clock."""
        self._path(response_id, end).touch(mode=0o600)

    def is_marked(self, response_id: str, end: End) -> bool:
        return self._path(response_id, end).exists()

    def delete(self, response_id: str) -> None:
        for kind in ("json", "cancelled", "streamed"):
            self._path(response_id, kind).unlink(missing_ok=True)

    def _path(self, response_id: str, kind: str = "json") -> Path:
        return self._directory / f"{response_id}.{kind}"

    def _sweep(self) -> None:
        oldest_s = time.time() - KEPT_S
        for path in self._directory.iterdir():
            with suppress(FileNotFoundError):  # another worker was quicker
                if path.stat().st_mtime < oldest_s:
                    path.unlink()
