"""What the daemon says: to people on a terminal, as JSON lines to everything else. Never a secret, never a query."""

from __future__ import annotations

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import TextIO

from llmctl.domain.redaction import KEY

# Whatever an error message may have picked up: beside keys, what is called one, and what stands where keys do. One word
# is called so and is none: OpenSSL's for a certificate that its key does not belong to.
_SECRET = re.compile(
    r"(\b(?!KEY_VALUES_MISMATCH(?![\w-]))(?:sk|key)[-_A-Za-z]{0,12}[-_](?=[\w-]{12})"
    r"|\bBearer\s+|[?&][\w.-]*(?:key|token)=)[^\s'\"&,;)\]}]+",
    re.IGNORECASE,
)
_CALL = re.compile(r"\bc_[0-9A-Z]{12}\b")
FIELDS = "fields"  # what a record says beside its message: `extra={FIELDS: {...}}`


def set_up(kind: str, stream: TextIO = sys.stderr) -> bool:
    """`kind`: text, json, or auto: text on a terminal. True if it is JSON."""
    as_json = kind == "json" or (kind == "auto" and not stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines() if as_json else Text("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    return as_json


def masked(text: str) -> str:
    return KEY.sub("***", _SECRET.sub(r"\1***", text))


class Text(logging.Formatter):
    """One line, and what was on the stack."""

    def format(self, record: logging.LogRecord) -> str:
        text = masked(super().format(record))
        fields = getattr(record, FIELDS, None)
        return f"{text} {' '.join(f'{name}={_word(value)}' for name, value in fields.items())}" if fields else text


class JsonLines(logging.Formatter):
    """One object a line. `call`: the id of the call that it is about."""

    def format(self, record: logging.LogRecord) -> str:
        message = masked(record.getMessage())
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "pid": record.process,
            "message": message,
        }
        if found := _CALL.search(message):
            line["call"] = found[0]
        line |= {name: masked(value) if isinstance(value, str) else value for name, value in _fields(record).items()}
        if record.exc_info:
            line["exception"] = masked(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=str)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields = getattr(record, FIELDS, None)
    return fields if isinstance(fields, dict) else {}


def _word(value: object) -> str:
    text = masked(str(value))
    return text if text and text.isprintable() and " " not in text else json.dumps(text)
