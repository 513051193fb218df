"""The words of a limit on the command line, as values: what is measured, in which window, of each of whom."""

from __future__ import annotations

from llmctl.domain.errors import BadInput
from llmctl.domain.limit import Each, Measure
from llmctl.domain.money import parse_usd
from llmctl.domain.window import WINDOWS, Window

from .errors import UsageMistake, not_possible
from .options import whole_number


def measured(
    cost: str | None, tokens: str | None, requests: str | None, concurrency: str | None
) -> tuple[Measure, int]:
    given: dict[Measure, str | None] = {
        "cost": cost,
        "tokens": tokens,
        "requests": requests,
        "concurrency": concurrency,
    }
    named = [(measure, text) for measure, text in given.items() if text is not None]
    if len(named) != 1:
        what = "more than one of" if named else "none of"
        raise UsageMistake(f"{what} --cost, --tokens, --requests, --concurrency is given", hint="name exactly one")
    measure, text = named[0]
    if measure != "cost":
        return measure, whole_number(text, f"--{measure}")
    try:
        return measure, parse_usd(text)
    except BadInput as error:
        raise UsageMistake(f"--cost {error.message}", hint=error.hint) from None


def window_of(measure: Measure, per: str | None) -> Window:
    if measure == "concurrency":
        if per is not None:
            raise UsageMistake("--concurrency takes no --per", hint="calls at once have no window: leave it out")
        return "total"
    if per is None:
        raise UsageMistake("--per is missing", hint=f"write --per {', '.join(WINDOWS[:-1])} or {WINDOWS[-1]}")
    for window in WINDOWS:
        if per == window:
            return window
    raise not_possible("--per", per, WINDOWS)


def each_of(text: str | None, *, on_many: bool) -> Each:
    if text is None:
        return ""
    if text == "end-user":
        return "end_user"
    if text != "user":
        raise not_possible("--each", text, ("user", "end-user"))
    if not on_many:
        raise UsageMistake("--each user needs --org or --group", hint="a user or key has no members: leave it out")
    return "user"
