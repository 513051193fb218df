from __future__ import annotations

import ast
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from llmctl import domain
from llmctl.domain.errors import BadInput
from llmctl.domain.money import AMOUNT_NANO_MAX, NANO_PER_USD, parse_usd, usd_exact, usd_fine, usd_plain, usd_short

CENT = NANO_PER_USD // 100
amounts = st.integers(0, AMOUNT_NANO_MAX) | st.integers(0, 3 * CENT)  # half of them where rounding is delicate


@given(amounts)
def test_an_amount_that_is_printed_reads_back_as_itself(nano: int) -> None:
    assert parse_usd(usd_exact(nano)) == parse_usd(usd_plain(nano)) == nano


@given(st.from_regex(r"[0-9]{1,12}(\.[0-9]{0,14})?|\.[0-9]{1,14}", fullmatch=True))
def test_an_amount_reads_as_exactly_what_is_written_or_not_at_all(text: str) -> None:
    exact = Fraction(text.rstrip(".")) * NANO_PER_USD
    if exact.denominator == 1 and exact <= AMOUNT_NANO_MAX:
        nano = parse_usd(text)
        assert nano == exact and type(nano) is int
    else:
        with pytest.raises(BadInput):
            parse_usd(text)


@pytest.mark.parametrize(
    ("text", "nano"),
    [
        ("200", 200 * NANO_PER_USD),
        ("200.50", 200 * NANO_PER_USD + 50 * CENT),
        (" 0.000000001\n", 1),
        ("0", 0),
        ("5.", 5 * NANO_PER_USD),
        (".5", 50 * CENT),
        ("007.10", 7 * NANO_PER_USD + 10 * CENT),
        pytest.param("0.1" + "0" * 5_000, 10 * CENT, id="many zeros"),
        ("1000000000.000000000", AMOUNT_NANO_MAX),
    ],
)
def test_an_amount_is_written_as_plain_decimal(text: str, nano: int) -> None:
    assert parse_usd(text) == nano


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        ".",
        "..",
        "1.2.3",
        "-1",
        "+1",
        "$200",
        "200 USD",
        "1,000",
        "1_000",
        "1e3",
        "0x10",
        "inf",
        "nan",
        "٣",
        "²",
        "1\x00",
    ],
)
def test_anything_else_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(BadInput, match=r"write it as 200 or 200\.50"):
        parse_usd(text)


@pytest.mark.parametrize("places", [10, 40, 9_000])
def test_a_fraction_below_the_smallest_amount_is_refused_and_not_rounded_away(places: int) -> None:
    with pytest.raises(BadInput, match="nine decimals"):
        parse_usd(f"0.1{'1':0>{places - 1}}")


@pytest.mark.parametrize("text", ["1000000000.000000001", "1000000001", pytest.param("9" * 100_000, id="many nines")])
def test_an_amount_that_would_not_fit_the_database_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="largest amount is 1000000000"):
        parse_usd(text)


@pytest.mark.parametrize(
    ("nano", "short"),
    [
        (0, "$0.00"),
        (1, "<$0.01"),
        (CENT - 1, "<$0.01"),
        (CENT, "$0.01"),
        (15 * CENT // 10, "$0.02"),
        (1_412_940_000_000, "$1,412.94"),
        (AMOUNT_NANO_MAX, "$1,000,000,000.00"),
        (NANO_PER_USD - 1, "$1.00"),
        (-1, "-<$0.01"),
        (-3 * NANO_PER_USD, "-$3.00"),
    ],
)
def test_people_see_cents(nano: int, short: str) -> None:
    assert usd_short(nano) == short


@given(amounts)
def test_people_never_see_nothing_where_something_was_spent(nano: int) -> None:
    short = usd_short(nano)
    assert (short == "$0.00") == (nano == 0)
    assert (short == "<$0.01") == (0 < nano < CENT)
    if nano >= CENT:
        assert abs(parse_usd(short.lstrip("$").replace(",", "")) - nano) <= CENT // 2


@given(amounts)
def test_where_fractions_of_a_cent_decide_they_are_shown(nano: int) -> None:
    shown = parse_usd(usd_fine(nano).lstrip("$").replace(",", ""))
    assert (shown == 0) == (nano == 0)
    assert abs(shown - nano) <= (CENT // 2 if nano >= NANO_PER_USD else CENT // 200)


@given(amounts, amounts)
def test_of_two_amounts_that_are_compared_the_larger_one_is_shown_larger(one: int, other: int) -> None:
    assume(one != other)
    low, high = usd_fine(min(one, other), "down"), usd_fine(max(one, other), "up")
    shown = [parse_usd(text.lstrip("$").replace(",", "")) for text in (low, high)]
    assert shown[0] <= min(one, other) and max(one, other) <= shown[1]
    assert shown[1] - max(one, other) < CENT and (shown[0] > 0 or min(one, other) == 0)


@pytest.mark.parametrize(
    ("nano", "fine"),
    [
        (0, "$0.00"),
        (10_000, "$0.00001"),
        (62_900_000, "$0.0629"),
        (62_950_000, "$0.0630"),
        (1_412_940_000_000, "$1,412.94"),
    ],
)
def test_small_amounts_have_four_places_and_tiny_ones_all(nano: int, fine: str) -> None:
    assert usd_fine(nano) == fine


@pytest.mark.parametrize(
    ("nano", "plain"), [(0, "0.00"), (250_000_000, "0.25"), (12_500, "0.0000125"), (-CENT, "-0.01")]
)
def test_the_plain_form_is_exact_and_has_at_least_two_places(nano: int, plain: str) -> None:
    assert usd_plain(nano) == plain


@given(st.integers(-AMOUNT_NANO_MAX, AMOUNT_NANO_MAX))
def test_json_has_nine_decimals_always(nano: int) -> None:
    whole, _, decimals = usd_exact(nano).partition(".")
    assert len(decimals) == 9 and int(whole + decimals) == nano


@pytest.mark.parametrize("module", ["demand", "limit", "money", "price"])
def test_no_module_that_computes_money_knows_floats(module: str) -> None:
    source = Path(domain.__path__[0], f"{module}.py").read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(source)):
        assert not (isinstance(node, ast.Constant) and isinstance(node.value, float)), ast.unparse(node)
        assert not (isinstance(node, ast.Name) and node.id == "float"), node.lineno
        assert not isinstance(node, ast.Div), "true division makes a float"
