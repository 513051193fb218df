"""Which of the stored prices hold for a model: an admin's before the catalogue's, an admin's ceiling after all."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from datetime import date

from llmctl.domain.access import without_routing

from . import price_match
from .price_rows import StoredRow

ANY_PROVIDER = "*"


def layers(
    rows: Sequence[StoredRow], provider: str, catalogue: str, model: str, sold_as: str = ""
) -> Iterable[list[StoredRow]]:
    """The rows for this model in order of precedence; a layer is one model or pattern with all its dates."""
    billed = sold_as or model
    names = tuple(dict.fromkeys((model, billed, without_routing(billed))))
    yield from _admins([row for row in rows if row.source == "admin"], provider, names)
    model = billed
    if catalogue:
        yield _first_fitting([row for row in rows if row.source == "catalogue" and row.provider == catalogue], model)
    sandbox = [row for row in rows if row.source == "sandbox" and row.provider in (provider, catalogue)]
    yield _first_fitting(sandbox, model)
    yield from _admins([row for row in rows if row.source == "ceiling"], provider, names)


def _admins(rows: Sequence[StoredRow], provider: str, names: Iterable[str]) -> Iterable[list[StoredRow]]:
    """By each name, for this provider, then for any: the model itself, then patterns, the longest first."""
    for name in names:
        for owner in (provider, ANY_PROVIDER):
            fitting = [row for row in rows if row.provider == owner and fits(row.match, name)]
            yield [row for row in fitting if row.match.startswith('{"equals"')]
            patterns = {row.model for row in fitting if row.match.startswith('{"glob"')}
            for pattern in sorted(patterns, key=lambda text: (-len(text), text)):
                yield [row for row in fitting if row.model == pattern]


def history(rows: Iterable[StoredRow], model: str) -> list[StoredRow]:
    """Every row that is or was for this model, by any of its names."""
    return [row for row in rows if any(fits(row.match, name) for name in _names(model))]


def fits(match: str, model: str) -> bool:
    """Whether a price with this clause is for that model."""
    return price_match.matches(_clause(match), model)


def _first_fitting(rows: Sequence[StoredRow], model: str) -> list[StoredRow]:
    """The dates of the first model that matches, as genai-prices chooses; else, by its other names."""
    for name in _names(model):
        for row in rows:
            if fits(row.match, name):
                return [other for other in rows if (other.model, other.match) == (row.model, row.match)]
    return []


def _names(model: str) -> Iterable[str]:
    """The model's own name, the same with its date spelled out, and without how OpenRouter is to route it: the prices
    of such are the model's."""
    return dict.fromkeys((model, _with_dashed_date(model), without_routing(model)))


def _with_dashed_date(model: str) -> str:
    """`gpt-5.2-20251211` -> `gpt-5.2-2025-12-11`: some gateways write dates without dashes."""

    def dashed(found: re.Match[str]) -> str:
        year, month, day = (int(number) for number in found.groups())
        try:
            return f"-{date(year, month, day).isoformat()}"
        except ValueError:
            return found[0]

    return re.sub(r"-(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)", dashed, model)


def _clause(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None
