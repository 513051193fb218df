"""Meters as people know them: how each is called, by which flag it is set, and in which unit providers price it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from llmctl.domain.money import PRICE_UNITS, usd_set
from llmctl.domain.price import IMAGE_TOOL_METERS, METERS, PARENT, TOOL_METERS, Rate


class Unit(NamedTuple):
    """How a rate is written: USD for so many units of the meter."""

    units: int
    text: str  # "$10.00 per 1,000 calls"


MILLION_TOKENS = Unit(PRICE_UNITS, "")  # what is not said otherwise
_ONE_CALL = Unit(1, "per call")
_UNITS: Mapping[str, Unit] = {
    "request": _ONE_CALL,
    "web_search": _ONE_CALL,
    "web_search_preview": _ONE_CALL,
    "map_search": _ONE_CALL,
    "file_search": _ONE_CALL,
    "code_interpreter": _ONE_CALL,
    "image_generation": _ONE_CALL,
    "audio_seconds": Unit(60, "per minute"),
    "characters": Unit(PRICE_UNITS, "per million"),
    "images": Unit(1, "each"),
    "pages": Unit(1, "each"),
    "search_units": Unit(1, "each"),
}


FLAGS: Mapping[str, str] = {
    **{meter: f"--{meter.replace('_', '-')}" for meter in (*PARENT, "characters")},
    **{meter: f"--per-{meter.replace('_', '-')}" for meter in ("request", *TOOL_METERS)},
    **{meter: f"--{meter.removesuffix('_tokens').replace('_', '-')}" for meter in IMAGE_TOOL_METERS},
    "audio_seconds": "--per-audio-minute",
    "images": "--per-image",
    "pages": "--per-page",
    "search_units": "--per-search-unit",
}


def flag(meter: str) -> str:
    """By which an admin sets its rate, in USD for one of its units."""
    return FLAGS[meter]


def unit(meter: str) -> Unit:
    return _UNITS.get(meter, MILLION_TOKENS)


def title(meter: str) -> str:
    """`Cache read`."""
    return meter.replace("_", " ").capitalize()


def rate_text(meter: str, rate: int) -> str:
    """`$1.25` for a million tokens, `$0.01 per call`, `$0.006 per minute`."""
    one = unit(meter)
    nano = (rate * one.units + PRICE_UNITS // 2) // PRICE_UNITS  # rates were rounded up once already
    return f"{usd_set(nano)}{f' {one.text}' if one.text else ''}"


def steps_text(meter: str, rate: Rate) -> str:
    """The same with what it becomes for long contexts."""
    steps = "".join(f", {rate_text(meter, usd)} above {above:,} input tokens" for above, usd in rate.steps)
    return f"{rate_text(meter, rate.base)}{steps}"


def rate_of(meter: str, nano_usd: int) -> int:
    """The rate per million units of what is written as USD for the meter's own unit; what is finer is rounded up."""
    return -(-nano_usd * PRICE_UNITS // unit(meter).units)


assert set(_UNITS) <= set(FLAGS) == set(METERS)
