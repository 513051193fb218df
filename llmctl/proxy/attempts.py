"""When a provider does not answer: is it asked again, with which credential, or what stands in for the model?"""

from __future__ import annotations

import time
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Literal, NamedTuple

from multidict import CIMultiDictProxy

# Before anything was generated: https://platform.openai.com/docs/guides/error-codes/api-errors and
# https://platform.claude.com/docs/en/api/errors
BUSY = (429, 503, 529)

# "forbidden": the credential is known, and may not do this; another model it may serve. "option": the provider does not
# take what we put into the request.
Why = Literal["unreachable", "busy", "credential", "forbidden", "timeout", "option"]


class Failure(NamedTuple):
    """An attempt without an answer, that may be followed by another. `billable`: the provider may have generated;
    `unwanted`: nobody waits for another."""

    why: Why
    billable: bool = False
    credential: int = 0  # its number
    retry_after_s: float | None = None
    unwanted: bool = False


class Attempt(NamedTuple):
    """One try of a call. `model`: what stands in for the one that was asked for, "" for that one itself; `place`: its
    place among those that may; `tried`: credentials of this provider that did not do; `first_id`: the call that this is
    another attempt of; `without_option`: the one before was refused for what we put into it."""

    model: str = ""
    place: int = 0
    number: int = 1
    tried: frozenset[int] = frozenset()
    first_id: int | None = None
    without_option: bool = False


FIRST = Attempt()


def retry_after_s(headers: CIMultiDictProxy[str]) -> float | None:
    """How long the provider wants to be left alone; None where it does not say, or nothing that makes sense."""
    text = headers.get("retry-after", "").strip()
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    seconds = _number(text)
    return _until(text) if seconds is None else seconds


def _number(text: str) -> float | None:
    try:
        return _sensible(float(text))
    except ValueError:
        return None


def _until(date: str) -> float | None:
    """In each of its forms it is in UTC: RFC 9110, 5.6.7."""
    try:
        at = parsedate_to_datetime(date)
        return _sensible((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _sensible(number: float) -> float | None:
    return number if 0 <= number < float("inf") else None
