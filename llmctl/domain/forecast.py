"""Where spending leads, if it goes on as it has since its window began: linear, and said to be so wherever shown."""

from __future__ import annotations

from typing import NamedTuple

from .limit import Standing

ELAPSED_SHARE_MIN = 50  # of a window at least a fiftieth (a month: 14 hours): what is shorter foretells nothing


class Forecast(NamedTuple):
    """`runs_out_s`: unix seconds at which nothing is left; None: the window ends before."""

    settled_at_end: int  # in the limit's measure
    runs_out_s: int | None


def forecast(standing: Standing, now_s: int) -> Forecast | None:
    """None where nothing can be said: a window without an end or that slides, one that has just begun, concurrency."""
    start_s, end_s, amount = standing.window_start_s, standing.window_end_s, standing.amount
    slides = standing.limit.window == "minute"  # it begins and ends with no clock
    if end_s is None or slides or standing.limit.measure == "concurrency" or standing.settled <= 0:
        return None
    elapsed_s, length_s = now_s - start_s, end_s - start_s
    if elapsed_s * ELAPSED_SHARE_MIN < length_s:
        return None
    at_end = standing.settled * length_s // elapsed_s
    if standing.settled >= amount:
        return Forecast(at_end, now_s)
    return Forecast(at_end, start_s + amount * elapsed_s // standing.settled if at_end > amount else None)
