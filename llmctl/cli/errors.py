"""What a command ends with: exit codes, and errors as one line (or one JSON object) on stderr."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TextIO

from llmctl.domain.errors import BadInput, DoesNotFit, LlmctlError

from .text import safe, safe_json

EXIT_OK = 0
EXIT_FAILED = 1  # refused, unknown name, bad configuration, no database, at odds with what is stored
EXIT_USAGE = 2  # arguments that cannot be parsed
EXIT_CONFIG = 78  # of `serve`, EX_CONFIG of sysexits.h: systemd is told not to start it again
EXIT_INTERRUPTED = 130


class UsageMistake(LlmctlError):
    """A command line that cannot be understood."""

    code = "usage"


class BadFile(LlmctlError):
    """What a file says cannot be used; the command line that names it was right."""

    code = "bad_input"


def not_possible(flag: str, value: str, known: Iterable[str]) -> UsageMistake:
    """`--per 'mont' is not possible; did you mean "month"?  use minute, hour, ...`"""
    from difflib import get_close_matches

    words = list(known)
    close = get_close_matches(value.lower(), words, n=1)
    suggestion = f'did you mean "{close[0]}"?  ' if close else ""
    return UsageMistake(f"{flag} {value!r} is not possible", hint=f"{suggestion}use {', '.join(words)}")


def exit_code(error: LlmctlError) -> int:
    if isinstance(error, DoesNotFit):
        return EXIT_FAILED
    return EXIT_USAGE if isinstance(error, (UsageMistake, BadInput)) else EXIT_FAILED


def report(error: LlmctlError, *, as_json: bool, stream: TextIO) -> None:
    """`error: no group "slaes"; did you mean "sales"?  See: llmctl group list`"""
    if as_json:
        record = {"error": {"code": error.code, "message": error.message, "hint": error.hint}}
        stream.write(safe_json(json.dumps(record, ensure_ascii=False)) + "\n")
    else:
        stream.write(f"error: {safe(_one_line(str(error)))}\n")
    stream.flush()


def _one_line(text: str) -> str:
    return " ".join(part.strip() for part in text.splitlines() if part.strip())
