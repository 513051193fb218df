"""How roll-ups are read: by months and days where those lie whole in what is asked for, else by quarters of an hour.

`summaries` repeat the roll-ups up to a place in them, `folded` (see store/fold.py). Whatever spans there are, a row of
the roll-ups is counted once: the spans inside a stretch of time follow one another, the roll-ups before the first of
them and after the last one fill the rest.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

from .sql import Reading

Place = tuple[int, int, int, int, int, int]  # a row of the roll-ups: bucket, lineage, user, key, model, end user

# Columns of `settings`.
FOLDED = "folded_bucket, folded_lineage_id, folded_user_id, folded_key_id, folded_model_id, folded_end_user_id"
FAR = 1 << 50  # a bucket after all others
_first = attrgetter("first")


class Stretch(NamedTuple):
    """Buckets `first` to `end` (exclusive), as row `number` of what is asked for."""

    number: int
    first: int
    end: int


class Span(NamedTuple):
    """A day or a month of the summaries, as buckets."""

    id: int
    first: int
    end: int

    def inside(self, stretch: Stretch, last: int) -> bool:
        """Whether all that it holds lies in the stretch: a span that goes on holds nothing after `last`."""
        return self.first >= stretch.first and min(self.end, last + 1) <= stretch.end


def _begun_in(stretch: Stretch, spans: Sequence[Span]) -> Sequence[Span]:
    return spans[bisect_left(spans, stretch.first, key=_first) : bisect_left(spans, stretch.end, key=_first)]


@dataclass(slots=True)
class Plan:
    """Where to read. Parameters of SUMMARIES and QUARTERS."""

    spans: list[tuple[int, int]] = field(default_factory=list)  # number, span id
    quarters: list[tuple[int, int, int]] = field(default_factory=list)  # number, first bucket, end
    rests: list[tuple[int, int, int]] = field(default_factory=list)  # the same, beyond `folded` only
    folded: Place = (-1, 0, 0, 0, 0, 0)

    def one_by_one(self) -> Iterator[tuple[str, dict[str, object]]]:
        """What to read FROM, up to and with a condition, and its parameters; `:number` is the row of what is asked for.
        A statement for each sorts the less: SQLite knows the order of one span's rows, but not that of all spans."""
        for number, span in self.spans:
            yield "summaries AS r WHERE r.span_id = :span", {"number": number, "span": span}
        for source, stretches in ((_STRETCH, self.quarters), (f"{_STRETCH} AND {_BEYOND}", self.rests)):
            for number, first, end in stretches:
                yield source, {"number": number, "first": first, "end": end, **self._at}

    @property
    def parameters(self) -> dict[str, object]:
        return {
            "spans": json.dumps(self.spans),
            "quarters": json.dumps([(*one, 0) for one in self.quarters] + [(*one, 1) for one in self.rests]),
            **self._at,
        }

    @property
    def _at(self) -> dict[str, object]:
        names = ("at_bucket", "at_lineage", "at_user", "at_key", "at_model", "at_end_user")
        return dict(zip(names, self.folded, strict=True))


_BEYOND = """(r.bucket, r.lineage_id, r.user_id, r.key_id, r.model_id, r.end_user_id)
          > (:at_bucket, :at_lineage, :at_user, :at_key, :at_model, :at_end_user)"""
_STRETCH = "rollups AS r WHERE r.bucket >= :first AND r.bucket < :end"
# Both name the roll-up rows `r`, and the row of what is asked for `s.value ->> 0`.
SUMMARIES = "json_each(:spans) AS s CROSS JOIN summaries AS r ON r.span_id = s.value ->> 1"
QUARTERS = f"""
    json_each(:quarters) AS s
    CROSS JOIN rollups AS r ON r.bucket >= s.value ->> 1 AND r.bucket < s.value ->> 2
     AND (s.value ->> 3 = 0 OR {_BEYOND})
"""


def plan(stretches: Sequence[Stretch]) -> Reading[Plan]:
    """How to read these stretches of time, which follow one another."""
    (at,) = yield f"SELECT {FOLDED} FROM settings", ()
    found = Plan(folded=at)
    if not stretches:
        return found
    spans = yield (
        "SELECT kind, id, first, end FROM spans WHERE first >= ? AND first < ? ORDER BY first",
        (stretches[0].first, stretches[-1].end),
    )
    months = [Span(*rest) for kind, *rest in spans if kind == "month"]
    days = [Span(*rest) for kind, *rest in spans if kind == "day"]
    for stretch in stretches:
        _add(found, stretch, months, days)
    return found


def whole(first: int, end: int) -> Reading[Plan]:
    """How to read one stretch of time."""
    return plan([Stretch(0, first, end)])


def _add(found: Plan, stretch: Stretch, months: Sequence[Span], days: Sequence[Span]) -> None:
    last = found.folded[0]
    chosen = [month for month in _begun_in(stretch, months) if month.inside(stretch, last)]
    for day in _begun_in(stretch, days):
        in_month = any(month.first <= day.first < month.end for month in chosen)
        if not in_month and day.inside(stretch, last):
            chosen.append(day)
    found.spans += [(stretch.number, span.id) for span in chosen]
    if not chosen:
        found.quarters.append((stretch.number, stretch.first, stretch.end))
        return
    first, end = min(span.first for span in chosen), max(span.end for span in chosen)
    if stretch.first < first:
        found.quarters.append((stretch.number, stretch.first, first))
    if end <= last:
        if end < stretch.end:
            found.quarters.append((stretch.number, end, stretch.end))
    elif last < stretch.end:
        found.rests.append((stretch.number, last, stretch.end))
