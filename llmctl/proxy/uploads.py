"""Bodies that are forms: small ones in memory, large ones in a temporary file without a name, sent from there. What the
provider gets are the client's bytes, but for the values that were changed."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import IO

from llmctl.dialects.wire.multipart import Form

MEMORY_BYTES_MAX = 1 << 20
PIECE_BYTES = 128 << 10

Edit = tuple[int, int, bytes]  # from, to, and what then stands there


class Upload:
    """A form that has arrived. Close it when the call is over."""

    def __init__(self, form: Form, size: int, start: bytes, file: IO[bytes] | None) -> None:
        self.form = form
        self.size = size
        self._start = start  # all of it, where there is no file
        self._file = file

    def edited(self, edits: Sequence[Edit]) -> Edited:
        return Edited(self, sorted(edits))

    async def read(self, start: int, end: int) -> AsyncIterator[bytes]:
        while start < end:
            stop = min(end, start + PIECE_BYTES)
            if self._file is None:
                piece = self._start[start:stop]
            else:
                piece = await asyncio.to_thread(os.pread, self._file.fileno(), stop - start, start)
            if not piece:
                raise OSError("the temporary file was cut short")
            yield piece
            start += len(piece)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class Edited:
    """The bytes of an upload with some values changed. They can be read more than once."""

    def __init__(self, upload: Upload, edits: Sequence[Edit]) -> None:
        self._upload = upload
        self._edits = edits

    def __len__(self) -> int:
        return self._upload.size + sum(len(value) - (end - start) for start, end, value in self._edits)

    async def pieces(self) -> AsyncIterator[bytes]:
        for start, end, value in self._ranges():
            async for piece in self._upload.read(start, end):
                yield piece
            if value:
                yield value

    def _ranges(self) -> Iterator[Edit]:
        """What stays, each with what follows it."""
        position = 0
        for start, end, value in self._edits:
            yield position, start, value
            position = end
        yield position, self._upload.size, b""


class Spool:
    """Where the bytes of a form go while they arrive."""

    def __init__(self) -> None:
        self.size = 0
        self._held = bytearray()
        self._file: IO[bytes] | None = None

    async def add(self, chunk: bytes) -> None:
        """Raises OSError: no space."""
        self._held += chunk
        self.size += len(chunk)
        if self._file is None and self.size <= MEMORY_BYTES_MAX:
            return
        if self._file is None:
            self._file = await asyncio.to_thread(tempfile.TemporaryFile, buffering=0)
        if len(self._held) >= PIECE_BYTES:
            await self._write()

    async def finish(self, form: Form) -> Upload:
        """Raises OSError: no space."""
        if self._file is None:
            return Upload(form, self.size, bytes(self._held), None)
        await self._write()
        return Upload(form, self.size, b"", self._file)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    async def _write(self) -> None:
        assert self._file is not None
        held, self._held = memoryview(bytes(self._held)), bytearray()
        while held:
            held = held[await asyncio.to_thread(self._file.write, held) :]
