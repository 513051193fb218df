"""Results as a table, JSON or CSV, from the same typed columns. Tables are aligned, without box lines, and nothing that
a cell holds is ever read as markup.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TextIO, TypeVar

from .text import cells, cut, padded, safe, safe_json

FORMATS = ("table", "json", "csv")
FOCUS = "focus"  # of `usage` only: see usage_focus.py
COLORS = ("auto", "always", "never")
GAP = "  "
LEAST_CELLS = 6  # a text column is not cut below this
LAST = 1_000  # as a column's `least`: it is cut where all the others are as narrow as they get

T = TypeVar("T")

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for a formula
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
RED, GREEN, YELLOW = "\x1b[31m", "\x1b[32m", "\x1b[33m"
_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"


@dataclass(frozen=True, slots=True)
class Column(Generic[T]):
    """One column: `value` typed, for JSON and CSV; `shown` for tables (default: the value as text)."""

    name: str  # in JSON and CSV
    value: Callable[[T], object] | None = None  # None: only in tables
    title: str = ""  # in tables; "": only in JSON and CSV
    shown: Callable[[T], str] | None = None
    right: bool = False
    drop: int = 0  # on a narrow terminal the highest goes first; 0: stays
    fixed: bool = False  # never cut
    least: int = LEAST_CELLS  # not cut below this while others can be cut, or dropped late
    keeps_end: bool = False  # where it is cut, the beginning goes
    late: bool = False  # dropped only where cutting texts is not enough

    def text(self, row: T) -> str:
        if self.shown is not None:
            return safe(self.shown(row))
        assert self.value is not None
        value = self.value(row)
        return "-" if value is None or value == "" else safe(str(value))


class Output:
    """Where a command's results go, and how."""

    def __init__(self, format_: str, *, quiet: bool, color: str) -> None:
        self.format = format_
        self.quiet = quiet
        self.stdout: TextIO = sys.stdout
        self.stderr: TextIO = sys.stderr
        self.color = _wants_color(self.stdout, color)
        self.ascii_only = not _speaks_utf8(self.stdout)
        # Piped tables are as wide as they are: nothing is cut that a script may want.
        self.width = shutil.get_terminal_size().columns if _is_terminal(self.stdout) else None

    @property
    def is_watched(self) -> bool:
        """Whether somebody sits before it, who wants to know what takes so long."""
        return _is_terminal(self.stderr)

    def rows(
        self,
        columns: Sequence[Column[T]],
        rows: Sequence[T],
        *,
        heading: str = "",
        empty: str = "",
        total: T | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        """A list. Heading, total, notes and the text for an empty list are for people: tables only."""
        if self.format == "json":
            self._write(json_list([record(columns, row) for row in rows]))
            return
        if self.format == "csv":
            write_csv(self.stdout, columns, rows)
            return
        if heading and not self.quiet:
            self._write(f"{self._cut(safe(heading))}\n\n")
        if rows:
            shown = [column for column in columns if column.title]
            for line in self.table(
                shown, [*rows, *([total] if total is not None else [])], bold_last=total is not None
            ):
                self._write(f"{line}\n")
        elif empty and not self.quiet:
            self._write(f"{empty}\n")
        if notes and not self.quiet:
            self._write("\n" if rows or heading else "")
            for note in notes:
                self._write(f"{self.paint(safe(note), YELLOW) if note.startswith('!') else safe(note)}\n")

    def one(self, values: Mapping[str, object], lines: str) -> None:
        """One thing: an object, or text for people (dropped by -q)."""
        if self.format == "json":
            self._write(safe_json(json.dumps(values, ensure_ascii=False)) + "\n")
        elif self.format == "csv":
            flat = dict(_flat(values))
            write_csv(self.stdout, [Column(name, _getter(name)) for name in flat], [flat])
        elif not self.quiet:
            self._write(f"{lines}\n")

    def result(self, values: Mapping[str, object], fields: Sequence[tuple[str, str | Sequence[str]]]) -> None:
        """One thing that was asked for: an object, or a list of its properties (also with -q)."""
        if self.format != "table":
            self.one(values, "")
            return
        width = max(len(name) for name, _ in fields)
        for name, value in fields:
            lines = [value] if isinstance(value, str) else value
            for number, line in enumerate(lines or ["-"]):
                self._write(f"{'' if number else name:<{width}}  {safe(line) or '-'}\n")

    def stream(self, columns: Sequence[Column[T]]) -> Callable[[Sequence[T]], None]:
        """For lists without an end: what it returns prints some rows at once. JSON: one object a line."""
        shown = [column for column in columns if column.title]
        least: list[int] = [0] * len(shown)
        begun = False

        def print_rows(rows: Sequence[T]) -> None:
            nonlocal begun
            if self.format == "json":
                for row in rows:
                    self._write(safe_json(json.dumps(record(columns, row), ensure_ascii=False)) + "\n")
            elif self.format == "csv":
                write_csv(self.stdout, columns, rows, header=not begun)
            else:
                # Columns only grow, so that what is on the screen stays aligned with what comes.
                lines = self.table(shown, rows, least=least)
                self._write("".join(f"{line}\n" for line in lines[1 if begun else 0 :]))
            begun = True
            self.stdout.flush()

        return print_rows

    def prose(self, text: str = "") -> None:
        """Prose beside a result: stderr, so that stdout holds the result alone."""
        if not self.quiet:
            self.stdout.flush()
            self.stderr.write(f"{text}\n")
            self.stderr.flush()

    def line(self, text: str) -> None:
        """A result that is a line of text."""
        self._write(f"{text}\n")
        self.stdout.flush()

    def table(
        self,
        columns: Sequence[Column[T]],
        rows: Sequence[T],
        *,
        bold_last: bool = False,
        least: list[int] | None = None,
    ) -> list[str]:
        """The lines of a table that fits. `least`: how wide columns are already; it is brought up to date."""
        texts, widths = _measured(columns, rows)
        if least is not None:
            widths = [max(pair) for pair in zip(widths, least, strict=True)]
            least[:] = widths
        kept, widths = self._fitted(columns, widths)
        lines = [self.paint(_line([columns[i].title for i in kept], [columns[i] for i in kept], widths), _BOLD)]
        for number, line in enumerate(texts):
            shown = [
                cut(line[i], width, ascii_only=self.ascii_only, keeps_end=columns[i].keeps_end)
                for i, width in zip(kept, widths, strict=True)
            ]
            text = _line(shown, [columns[i] for i in kept], widths)
            lines.append(self.paint(text, _BOLD) if bold_last and number == len(texts) - 1 else text)
        return lines

    def keeps(self, columns: Sequence[Column[T]], rows: Sequence[T], name: str) -> bool:
        """Whether this column has a place in a table of these rows."""
        shown = [column for column in columns if column.title]
        kept, _ = self._fitted(shown, _measured(shown, rows)[1])
        return any(shown[i].name == name for i in kept)

    def paint(self, text: str, style: str) -> str:
        return f"{style}{text}{_PLAIN}" if self.color and text else text

    def _fitted(self, columns: Sequence[Column[T]], widths: list[int]) -> tuple[list[int], list[int]]:
        """Which columns stay and how wide: first whole columns go, then the widest texts are cut, if need be after the
        columns that go late."""
        kept = list(range(len(columns)))
        if self.width is None:
            return kept, widths

        def excess() -> int:
            assert self.width is not None
            return sum(widths[i] for i in kept) + len(GAP) * (len(kept) - 1) - self.width

        while excess() > 0 and any(columns[i].drop for i in kept):
            kept.remove(max(kept, key=lambda i: columns[i].drop))
        texts = [i for i, column in enumerate(columns) if not column.right and not column.fixed]
        can_go = sum(max(0, widths[i] - columns[i].least) for i in texts if i in kept)
        while excess() > can_go and any(columns[i].late for i in kept):
            kept.remove(next(i for i in kept if columns[i].late))
        for least in ([column.least for column in columns], [LEAST_CELLS] * len(columns)):
            while excess() > 0 and (cuttable := [i for i in texts if i in kept and widths[i] > least[i]]):
                widths[max(cuttable, key=lambda i: widths[i])] -= 1
        return kept, [widths[i] for i in kept]

    def _cut(self, text: str) -> str:
        return text if self.width is None else cut(text, self.width, ascii_only=self.ascii_only)

    def _write(self, text: str) -> None:
        self.stdout.write(text)


def _measured(columns: Sequence[Column[T]], rows: Sequence[T]) -> tuple[list[list[str]], list[int]]:
    """The texts of each row, and how wide each column is."""
    texts = [[column.text(row) for column in columns] for row in rows]
    return texts, [max([cells(column.title), *(cells(line[i]) for line in texts)]) for i, column in enumerate(columns)]


def record(columns: Iterable[Column[T]], row: T) -> dict[str, object]:
    return {column.name: column.value(row) for column in columns if column.value is not None}


def json_list(records: Sequence[Mapping[str, object]]) -> str:
    """A bare array, a row a line: `[]` when empty."""
    if not records:
        return "[]\n"
    lines = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in records)
    return safe_json(f"[\n  {lines}\n]\n")


def write_csv(stream: TextIO, columns: Sequence[Column[T]], rows: Iterable[T], *, header: bool = True) -> None:
    import csv

    typed = [column for column in columns if column.value is not None]
    writer = csv.writer(stream, lineterminator="\n")
    if header:
        writer.writerow([column.name for column in typed])
    for row in rows:
        writer.writerow([_csv_cell(column.value(row)) for column in typed if column.value is not None])


def _csv_cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, dict)):
        return json.dumps(value) if value else ""
    text = safe(str(value))
    # A name that a stranger chose must not become a formula in the accountant's spreadsheet.
    return f"'{text}" if text.startswith(_FORMULA) and not _NUMBER.fullmatch(text) else text


def _line(texts: Sequence[str], columns: Sequence[Column[T]], widths: Sequence[int]) -> str:
    parts = [
        padded(text, width, right=column.right) for text, column, width in zip(texts, columns, widths, strict=True)
    ]
    return GAP.join(parts).rstrip()


def _flat(values: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """A table has no objects in its cells: `key_secret` for the secret in `key`."""
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from ((f"{name}_{below}", inner) for below, inner in _flat(value))
        else:
            yield name, value


def _getter(name: str) -> Callable[[Mapping[str, object]], object]:
    return lambda values: values[name]


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def _wants_color(stream: TextIO, wish: str) -> bool:
    """--color, then NO_COLOR (no-color.org), FORCE_COLOR, then the terminal."""
    if wish != "auto":
        return wish == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return _is_terminal(stream) and os.environ.get("TERM", "") not in ("", "dumb")


def _speaks_utf8(stream: TextIO) -> bool:
    """The locale decides: Python writes UTF-8 even where it says otherwise."""
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        if value := os.environ.get(name, ""):
            return "utf" in value.lower()
    return "utf" in (getattr(stream, "encoding", "") or "").lower()
