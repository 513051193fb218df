"""Reading what a provider sent: nothing in an answer may make us fail, and what makes no sense counts as absent."""

from __future__ import annotations

import json
from decimal import ROUND_CEILING, Decimal
from typing import Any, TypeGuard

import msgspec
from msgspec import Raw

from ...domain.money import AMOUNT_NANO_MAX, NANO_PER_USD
from ...domain.usage import COUNT_MAX, count_of

NAME_CHARACTERS_MAX = 200
USAGE_BYTES_MAX = 64 << 10  # a usage object is kept with its call; a larger one is none

_members = msgspec.json.Decoder(dict[str, Raw]).decode
_items = msgspec.json.Decoder(list[Raw]).decode
_plain = msgspec.json.Decoder(float_hook=Decimal).decode

Number = int | Decimal


def members(text: bytes | Raw) -> dict[str, Raw]:
    """The members of a JSON object; none if it is no such thing. Takes what Python's json takes beyond the standard:
    NaN, Infinity, lone surrogates, which real servers send, and control characters in strings."""
    try:
        return _members(text)
    except (ValueError, RecursionError):
        pass
    if not bytes(memoryview(text)[:64]).lstrip().startswith(b"{"):
        return {}
    try:
        values = json.loads(bytes(text), strict=False)
        return {name: Raw(json.dumps(value).encode()) for name, value in values.items()}
    except (ValueError, RecursionError):
        return {}


def encoded_members(values: dict[str, Raw]) -> bytes:
    """A JSON object with these members."""
    try:
        return msgspec.json.encode(values)
    except UnicodeEncodeError:  # a lone surrogate in a name
        return b"{%b}" % b",".join([b"%b:%b" % (json.dumps(name).encode(), value) for name, value in values.items()])


def items(text: Raw | None) -> list[Raw]:
    """The items of a JSON list; none if it is no list."""
    try:
        return _items(text) if text is not None else []
    except (ValueError, RecursionError):
        return []


def plain(text: bytes | Raw) -> dict[str, Any]:
    """A small JSON object as Python values, numbers exact (int, Decimal); a value that cannot be read is left out."""
    try:
        value = _plain(text)
    except (ValueError, RecursionError):
        value = {name: inner for name, raw in members(text).items() if (inner := plain_value(raw)) is not None}
    return value if isinstance(value, dict) else {}


def plain_value(raw: Raw) -> Any:
    """A small JSON value as a Python value; None if it cannot be read."""
    try:
        return _plain(raw)
    except (ValueError, RecursionError):
        return None


def is_present(raw: Raw | None) -> TypeGuard[Raw]:
    """There, and not null."""
    return raw is not None and (len(raw) != 4 or bytes(raw) != b"null")


def name_of(raw: Raw | None) -> str:
    """A model, tier or error code as the provider wrote it; "" for anything but a short printable string."""
    if raw is None or len(raw) > 6 * NAME_CHARACTERS_MAX:
        return ""
    value = plain_value(raw)
    return short_name(value)


def short_name(value: object) -> str:
    return value if isinstance(value, str) and len(value) <= NAME_CHARACTERS_MAX and value.isprintable() else ""


def inner(values: dict[str, Any], *names: str) -> dict[str, Any]:
    """The first of these members that is an object; {} if none is."""
    for name in names:
        value = values.get(name)
        if isinstance(value, dict):
            return value
    return {}


def count(value: object) -> int:
    """As count_of, also for a Decimal without a fraction."""
    if value is None:
        return 0
    if isinstance(value, Decimal) and 0 < value <= COUNT_MAX and value == value.to_integral_value():
        return int(value)
    return count_of(value)


def counts(values: dict[str, Any]) -> dict[str, int]:
    """Every member as a count; what is none is 0."""
    return {
        name: value if type(value) is int and 0 <= value <= COUNT_MAX else count(value)
        for name, value in values.items()
    }


def is_count(value: object) -> bool:
    """Whether the provider stated a usable figure here: 0 is one, a string or a negative number is none."""
    if type(value) is int:
        return 0 <= value <= COUNT_MAX
    return count(value) > 0 or (isinstance(value, Number) and not isinstance(value, bool) and value == 0)


def nano_usd(value: object) -> int | None:
    """USD as nano-USD, rounded up; None for what is no sum of money."""
    if isinstance(value, bool) or not isinstance(value, Number):
        return None
    amount = Decimal(value)
    # Bounded before the arithmetic: 1e999999999 would take all memory as an integer.
    if not amount.is_finite() or amount < 0 or amount.adjusted() > 18:
        return None
    nano = int((amount * NANO_PER_USD).to_integral_value(ROUND_CEILING)) if amount.adjusted() > -30 else int(amount > 0)
    return nano if nano <= AMOUNT_NANO_MAX else None
