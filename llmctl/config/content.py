"""The [content] table: how prompts and answers are kept, where they are."""

from __future__ import annotations

from typing import NamedTuple

from llmctl.domain.redaction import KINDS

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
    _check_patterns(table, settings.patterns)
    table.finish()
    return settings


def _check_patterns(table: Table, patterns: tuple[str, ...]) -> None:
    if not patterns:
        return
    import regex  # type: ignore[import-untyped]  # it ships no types; late, so that the commands start fast

    for pattern in patterns:
        try:
            regex.compile(pattern)
        except regex.error as error:
            raise table.error("patterns", f"{pattern!r} is no regular expression: {error}", "mend it") from None
