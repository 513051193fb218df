"""What the answers to `media_request` say: usage in tokens, seconds, images, pages and search units."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from msgspec import Raw

from ...domain.call import Reading
from ...domain.usage import COUNT_MAX, NO_USAGE, Usage
from ..base import AnswerReader
from ..wire.lenient import USAGE_BYTES_MAX, count, inner, is_present, items, plain
from ..wire.stream import begins_events
from .usage import read_usage

FINAL_TYPES = (
    b'"image_generation.completed"',
    b'"image_edit.completed"',
    b'"transcript.text.done"',
    b'"speech.audio.done"',
)
# Their answers may be plain text.
TEXT_ANSWERS = frozenset({"audio.transcriptions", "audio.translations"})


def media_usage(endpoint: str, holder: dict[str, Raw]) -> tuple[Usage | None, bytes]:
    """The usage that an answer, or an event, states, and the object that states it."""
    raw = _stated(endpoint, holder)
    if raw is None or len(raw) > USAGE_BYTES_MAX:
        return None, b""
    usage = read_media_usage(endpoint, raw)
    if endpoint.startswith("images."):
        # xAI states its money alone.
        made = len(items(holder.get("data"))) or 1
        usage = (usage or NO_USAGE)._replace(images=made) if usage or b'"cost' in raw else None
    return usage, raw


def read_media_usage(endpoint: str, raw: bytes | Raw) -> Usage | None:
    """The same from the object alone; how many images there were does not stand in it."""
    values = plain(raw)
    usage = read_usage(raw, generates=endpoint not in ("moderations", "rerank", "ocr"))
    found = (usage or NO_USAGE)._replace(**_units(endpoint, values))
    return found if usage or found != NO_USAGE else None


def _stated(endpoint: str, holder: dict[str, Raw]) -> bytes | None:
    usage = holder.get("usage")
    if is_present(usage):
        return bytes(usage)
    if endpoint == "ocr":
        usage = holder.get("usage_info")
        return bytes(usage) if is_present(usage) else None
    if endpoint == "rerank":  # Cohere, and who takes after it
        meta = holder.get("meta")
        return bytes(meta) if is_present(meta) else None
    if endpoint in TEXT_ANSWERS and is_present(duration := holder.get("duration")):  # verbose_json of older servers
        return b'{"duration":%b}' % bytes(duration)
    return None


def _units(endpoint: str, values: dict[str, Any]) -> dict[str, int]:
    if endpoint in TEXT_ANSWERS:
        stated = (values.get(name) for name in ("seconds", "duration", "prompt_audio_seconds"))
        return {"audio_seconds": next((found for value in stated if (found := _seconds(value))), 0)}
    if endpoint == "rerank":
        billed = inner(values, "billed_units")
        return {"search_units": max(count(values.get("search_units")), count(billed.get("search_units")))}
    if endpoint == "ocr":
        return {"pages": count(values.get("pages_processed"))}
    return {}


def _seconds(value: object) -> int:
    """Rounded up; some servers write the number as a text."""
    if isinstance(value, str):
        try:
            value = Decimal(value)
        except ArithmeticError:
            return 0
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or not 0 < value <= COUNT_MAX:
        return 0
    return math.ceil(value)


class SpeechReader:
    """Sound passes as it comes, and tells nothing; a server that sends events instead is read."""

    def __init__(self, events: Callable[[], AnswerReader]) -> None:
        self.first_output = False
        self._events = events
        self._reader: AnswerReader | None = None

    def feed(self, chunk: bytes) -> bytes:
        if not self.first_output:
            self.first_output = True
            if begins_events(chunk):
                self._reader = self._events()
        return chunk if self._reader is None else self._reader.feed(chunk)

    def close(self) -> bytes:
        return b"" if self._reader is None else self._reader.close()

    def reading(self) -> Reading:
        return Reading(finished=self.first_output) if self._reader is None else self._reader.reading()
