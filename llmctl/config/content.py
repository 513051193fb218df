"""The [content] table: how prompts and answers are kept, where they are."""

from __future__ import annotations

from typing import NamedTuple

from llmctl.domain.errors import BadInput
from llmctl.domain.redaction import KINDS, Redactor

from .toml_table import Table


class ContentSettings(NamedTuple):
    """How prompts and answers are kept, of groups that want it: `llmctl content keep GROUP`."""

    keep_days: int = 30
    bytes_max: int = 1 << 20  # of each prompt and each answer; the rest is cut off
    redact: tuple[str, ...] = KINDS
    patterns: tuple[str, ...] = ()  # regular expressions of one's own


def read(table: Table) -> ContentSettings:
    """Raises ConfigError."""
    default = ContentSettings()
    settings = ContentSettings(
        keep_days=table.integer("keep_days", default.keep_days, least=1, most=3_650),
        bytes_max=table.integer("bytes_max", default.bytes_max, least=1_024, most=32 << 20),
        redact=table.strings("redact", default.redact),
        patterns=table.strings("patterns", default.patterns),
    )
    for kind in settings.redact:
        if kind not in KINDS:
            raise table.error("redact", f"{kind!r} is not possible", f"write some of {', '.join(KINDS)}")
    try:
        Redactor(settings.redact, settings.patterns)
    except BadInput as error:
        raise table.error("patterns", error.message, "mend it") from None
    table.finish()
    return settings
