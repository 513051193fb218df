"""Figures for people: short in tables, never wrong about nothing versus little."""

from __future__ import annotations

from collections.abc import Sequence

from llmctl.domain.money import usd_set, usd_short

NAMES_SHOWN_MAX = 20


def some(names: Sequence[str]) -> str:
    """`alice, bob`; of many, the first and how many more there are."""
    more = f" and {len(names) - NAMES_SHOWN_MAX} more" if len(names) > NAMES_SHOWN_MAX else ""
    return f"{', '.join(names[:NAMES_SHOWN_MAX])}{more}"


def count(number: int) -> str:
    return f"{number:,}"


def tokens(number: int) -> str:
    """`640`, `9.1k`, `61.2M`, `1.3G`."""
    for unit, name in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        # 999,950 is 1.0M, not 1000.0k.
        if number >= unit - unit // 20_000:
            tenths = (number * 10 + unit // 2) // unit
            return f"{tenths / 10:.1f}{name}" if tenths < 1000 else f"{(tenths + 5) // 10}{name}"
    return str(number)


def share(part: int, whole: int) -> str:
    """`71%`; `<1%` for a little, `-` where there is nothing to share."""
    if whole <= 0:
        return "-"
    percent = 100 * part // whole
    return "<1%" if percent == 0 and part > 0 else f"{percent}%"


def usd(nano: int | None) -> str:
    """`$1,412.94`, `<$0.01`; `unpriced` where the price is not known."""
    return "unpriced" if nano is None else usd_short(nano)


def amount(measure: str, number: int) -> str:
    """What is spent of a limit, in its own unit."""
    return usd_short(number) if measure == "cost" else count(number)


def set_amount(measure: str, number: int) -> str:
    """A limit's own amount, or a grant's: as it was set."""
    return usd_set(number) if measure == "cost" else count(number)


def limit_text(measure: str, number: int, window: str, granted: int = 0) -> str:
    """`$120.00/month`, `2,000,000 tokens/day`, `20 at once`, `$50.00 in total`; with a grant `$5.00 +$2.00/day`."""
    what = set_amount(measure, number) + (f" +{set_amount(measure, granted)}" if granted else "")
    if measure == "concurrency":
        return f"{what} at once"
    if measure != "cost":
        what = f"{what} {measure}"
    return f"{what} in total" if window == "total" else f"{what}/{window}"


def milliseconds(number: int | None) -> str:
    if number is None:
        return "-"
    if number < 1_000:
        return f"{number} ms"
    if number < 100_000:
        return f"{number / 1000:.1f} s"
    return f"{number // 1000} s"


def plural(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def size(number: int) -> str:
    """Bytes: `512 B`, `620 kB`, `1.7 GB`."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if number >= unit:
            return f"{number / unit:.1f} {name}" if number < 10 * unit else f"{number // unit} {name}"
    return f"{number} B"


def span(seconds: int) -> str:
    """`40 s`, `14 min`, `2 h 5 min`, `3 d 4 h`."""
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3_600:
        return f"{seconds // 60} min"
    if seconds < 86_400:
        return f"{seconds // 3_600} h {seconds % 3_600 // 60} min".removesuffix(" 0 min")
    return f"{seconds // 86_400} d {seconds % 86_400 // 3_600} h".removesuffix(" 0 h")


def ago(seconds: int) -> str:
    """`now`, `5 min ago`, `12 d ago`."""
    for unit_s, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= unit_s:
            return f"{seconds // unit_s} {name} ago"
    return "now"


def works_text(disabled: bool, disabled_by: str | None) -> str:
    """Of a user or a group: `disabled`, or `disabled (group sales)` where it is not it that is."""
    if disabled or not disabled_by:
        return "disabled" if disabled else "active"
    return f"disabled ({disabled_by})"
