"""Text for terminals: safe to print whatever it holds, measured in cells, cut to fit."""

from __future__ import annotations

import re
from collections.abc import Sequence

_JSON_UNSAFE = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")  # json leaves these as they are
_JOINER = "\u200d"  # unprintable by Unicode's letter, but emoji are made with it

BAR_CELLS = 10
_BAR = ("█", "░")
_BAR_ASCII = ("#", ".")
_TREND = "▁▂▃▄▅▆▇█"
_TREND_ASCII = "_.:-=+*#"
_EIGHTHS = ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")
_NARROW = "".join([_TREND, *_BAR, *_EIGHTHS, "…"])


def safe(text: str) -> str:
    """Control characters, escapes and direction marks written out (`\\x1b`), so that they reach no terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char == _JOINER else _written_out(char) for char in text)


def safe_json(text: str) -> str:
    """JSON text whose strings hold nothing that a terminal obeys."""
    return _JSON_UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def cells(text: str) -> int:
    """How wide a terminal shows it: East Asian characters and emoji take two cells."""
    if text.isascii() or text.strip(_NARROW).isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def cut(text: str, width: int, *, ascii_only: bool = False, keeps_end: bool = False) -> str:
    """The text, or as much of its beginning (or its end) as fits with a mark that there is more."""
    if cells(text) <= width:
        return text
    mark = "~" if ascii_only else "…"
    if width <= 1:
        return mark[:width]
    if keeps_end:
        first = next(place for place in range(len(text) + 1) if cells(text[place:]) < width)
        return mark + text[first:].lstrip()
    from rich.cells import set_cell_size

    return set_cell_size(text, width - 1).rstrip() + mark


def padded(text: str, width: int, *, right: bool) -> str:
    space = " " * max(0, width - cells(text))
    return space + text if right else text + space


def bar(part: int, whole: int, *, ascii_only: bool) -> str:
    """`████████░░  82%`: how much of the whole is gone. Whole cells only when they are really full."""
    percent = 100 * part // whole if whole > 0 else (100 if part else 0)
    full = min(BAR_CELLS, max(0, percent) * BAR_CELLS // 100)
    mark, rest = _BAR_ASCII if ascii_only else _BAR
    shown = "<1%" if percent == 0 and part > 0 else f"{percent}%"
    return f"{mark * full}{rest * (BAR_CELLS - full)} {shown:>4}"


def trend(values: Sequence[int], *, ascii_only: bool) -> str:
    """One small bar a value, the highest one full."""
    marks = _TREND_ASCII if ascii_only else _TREND
    highest = max(values, default=0)
    if highest <= 0:
        return marks[0] * len(values)
    steps = len(marks) - 1
    return "".join(marks[-(-max(0, value) * steps // highest)] for value in values)


def length(part: int, whole: int, *, ascii_only: bool) -> str:
    """`███▌`: a bar as long as the part is of the whole; something always shows."""
    if part <= 0 or whole <= 0:
        return ""
    if ascii_only:
        return _BAR_ASCII[0] * max(1, part * BAR_CELLS // whole)
    full, eighths = divmod(max(1, part * BAR_CELLS * 8 // whole), 8)
    return _BAR[0] * full + _EIGHTHS[eighths]


def _written_out(char: str) -> str:
    number = ord(char)
    if number <= 0xFF:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"
