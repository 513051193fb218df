from __future__ import annotations

import pytest

from llmctl.cli import humanize, text


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0"),
        (999, "999"),
        (1_000, "1.0k"),
        (9_149, "9.1k"),
        (999_949, "1000k"),
        (999_950, "1.0M"),
        (61_200_000, "61.2M"),
        (912_000, "912k"),
        (2_500_000_000, "2.5G"),
    ],
)
def test_token_counts_are_short(number: int, shown: str) -> None:
    assert humanize.tokens(number) == shown


def test_spend_is_never_shown_as_nothing() -> None:
    assert [humanize.usd(nano) for nano in (0, 1, 4_999_999, 1_412_940_000_000)] == [
        "$0.00",
        "<$0.01",
        "<$0.01",
        "$1,412.94",
    ]
    assert humanize.usd(None) == "unpriced"


def test_bars_and_trends_have_an_ascii_form() -> None:
    assert text.bar(82, 100, ascii_only=False) == "████████░░  82%"
    assert text.bar(82, 100, ascii_only=True) == "########..  82%"
    assert text.bar(1, 1000, ascii_only=True) == "..........  <1%"
    assert text.bar(300, 100, ascii_only=True) == "########## 300%"
    assert text.bar(5, 0, ascii_only=True) == "########## 100%"
    assert text.trend([0, 1, 50, 100], ascii_only=False) == "▁▂▅█"
    assert text.trend([0, 0], ascii_only=True) == "__"


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("x[/bold]", "x[/bold]"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("a\nb\tc\r", "a\\x0ab\\x09c\\x0d"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\x9b2J", "\\x9b2J"),
        ("\ud800", "\\ud800"),
        ("模型 👩‍👩‍👧", "模型 👩‍👩‍👧"),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(hostile: str, shown: str) -> None:
    assert text.safe(hostile) == shown


def test_wide_text_is_measured_and_cut_in_cells() -> None:
    assert text.cells("模型") == 4
    assert text.cut("模型模型", 6) == "模型…"
    assert text.cells(text.cut("模型模型", 6)) <= 6
    assert text.padded("模", 4, right=False) == "模  "
    assert text.cut("abc", 1) == "…"
