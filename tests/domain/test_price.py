from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.domain.price import (
    METERS,
    TOOL_METERS,
    UNIT_METERS,
    CacheWrites,
    Hours,
    Part,
    Price,
    Rate,
    Tariff,
    pick,
    sides_missing,
)
from llmctl.domain.usage import USAGE_CLASSES, Usage

# `price.py` skips parts by their places in the tuple.
FIRST_COUNTED = USAGE_CLASSES.index("web_search_calls")
assert all(name.endswith("_tokens") for name in USAGE_CLASSES[:FIRST_COUNTED])
assert [name.removesuffix("_calls") for name in USAGE_CLASSES[FIRST_COUNTED:]] == [*TOOL_METERS, *UNIT_METERS]

USD = 1_000_000_000  # a rate of a dollar per million tokens


def price(**changes: object) -> Price:
    """A price like GPT-5's, with a context step: $1.25 in, $0.125 cached, $10 out, $10 per 1,000 searches."""
    tariff = Tariff(
        {
            "input": Rate(1_250_000_000, ((272_000, 2_500_000_000),)),
            "cache_read": Rate(125_000_000, ((272_000, 250_000_000),)),
            "output": Rate(10 * USD, ((272_000, 15 * USD),)),
            "web_search": Rate(10_000 * USD),
        }
    )
    return replace(Price(1, "openai", "gpt-5", "catalogue", 0, tariff), **changes)  # type: ignore[arg-type]


def rates(**by_meter: int) -> Tariff:
    return Tariff({meter: Rate(rate) for meter, rate in by_meter.items()})


def test_cached_and_reasoning_tokens_are_parts_of_their_totals_and_counted_once() -> None:
    usage = Usage(input_tokens=1000, cache_read_tokens=400, output_tokens=200, reasoning_tokens=150)
    # 600 x $1.25 + 400 x $0.125 + 200 x $10, per million
    assert price().cost_nano_usd(usage) == 750_000 + 50_000 + 2_000_000


def test_a_cost_explains_itself_line_by_line() -> None:
    usage = Usage(input_tokens=10, cache_read_tokens=4, output_tokens=3, web_search_calls=2, file_search_calls=1)
    assert price().parts(usage) == [
        Part("input", 6, 1_250_000_000, 7_500_000_000),
        Part("cache_read", 4, 125_000_000, 500_000_000),
        Part("output", 3, 10 * USD, 30_000_000_000),
        Part("web_search", 2, 10_000 * USD, 20_000 * USD),
        Part("file_search", 1, None, 0),  # this price does not know what a file search costs
    ]


def test_what_is_billed_by_another_unit_than_tokens_has_meters_of_its_own() -> None:
    spoken = Price(1, "openai", "whisper-1", "catalogue", 0, rates(audio_seconds=100_000 * 1_000_000))  # $0.006/minute
    assert spoken.cost_nano_usd(Usage(audio_seconds=61)) == 6_100_000


def test_what_is_billed_by_the_second_is_not_billed_by_the_token_too() -> None:
    by_second = rates(input=100, output=400, audio_seconds=66_667 * 1_000_000)
    usage = Usage(input_tokens=22_520, input_audio_tokens=22_500, output_tokens=100, audio_seconds=1_800)
    mistral = Price(1, "mistral", "voxtral-small-latest", "catalogue", 0, by_second)
    assert [(part.meter, part.rate == 0) for part in mistral.parts(usage)] == [
        ("input", False),
        ("input_audio", True),
        ("output", False),
        ("audio_seconds", False),
    ]
    by_both = Price(1, "x", "y", "catalogue", 0, rates(input=100, input_audio=200, audio_seconds=66_667 * 1_000_000))
    assert all(part.rate for part in by_both.parts(usage) if part.meter == "input_audio")
    drawn = Price(2, "openai", "dall-e", "catalogue", 0, rates(images=40_000 * USD), {"hd": rates(images=80_000 * USD)})
    assert drawn.cost_nano_usd(Usage(images=2), "hd") == 160_000_000
    assert drawn.units_ceiling([("images", 2), ("pages", 9)]) == 80_000_000
    assert drawn.units_ceiling([("images", 2)], "hd") == 160_000_000
    assert drawn.units_ceiling([("images", 2)], "a tier of tomorrow") == 160_000_000


def test_a_context_step_prices_the_whole_call() -> None:
    assert price().cost_nano_usd(Usage(input_tokens=272_000, output_tokens=1)) == 340_000_000 + 10_000
    assert price().cost_nano_usd(Usage(input_tokens=272_001, output_tokens=1)) == 680_002_500 + 15_000


def test_the_step_is_chosen_by_all_input_also_the_cached() -> None:
    usage = Usage(input_tokens=300_000, cache_read_tokens=300_000)
    assert price().cost_nano_usd(usage) == 300_000 * 250_000_000 // 10**6


@pytest.mark.parametrize(
    ("tariff", "expected"),
    [
        (rates(input=100), 100 * 100),
        (rates(input=100, cache_write=125), 40 * 100 + 60 * 125),
        (rates(input=100, cache_write=125, cache_write_1h=200), 40 * 100 + 50 * 125 + 10 * 200),
    ],
)
def test_a_part_without_a_rate_is_billed_at_its_parents(tariff: Tariff, expected: int) -> None:
    usage = Usage(input_tokens=100, cache_write_tokens=60, cache_write_1h_tokens=10)
    assert sum(part.nano_e6 for part in price(tariff=tariff).parts(usage)) == expected


def test_more_cached_tokens_than_input_cost_what_is_cached_and_never_less_than_nothing() -> None:
    # Grok on Azure reports 161 cached of 7 prompt tokens.
    assert price().cost_nano_usd(Usage(input_tokens=7, cache_read_tokens=161)) == 161 * 125


@pytest.mark.parametrize("medium", ["audio", "image"])
def test_media_that_were_cached_too_are_billed_as_cached_media(medium: str) -> None:
    tariff = rates(input=4, cache_read=1, **{f"input_{medium}": 32, f"cache_{medium}_read": 2})
    usage = Usage(input_tokens=100, cache_read_tokens=80)._replace(**{f"input_{medium}_tokens": 90})
    # At least 70 are both; 10 more are cached text, 20 fresh media.
    assert sum(part.nano_e6 for part in price(tariff=tariff).parts(usage)) == 70 * 2 + 10 + 20 * 32


def test_audio_and_images_of_the_output_have_their_own_rates() -> None:
    tariff = rates(input=1, output=10, output_audio=20, output_image=40)
    usage = Usage(output_tokens=100, output_audio_tokens=50, output_image_tokens=30, reasoning_tokens=90)
    # 20 are left for the text of which they say 90: never more than the total.
    assert sum(part.nano_e6 for part in price(tariff=tariff).parts(usage)) == 50 * 20 + 30 * 40 + 20 * 10


def test_a_cost_is_rounded_once_and_up() -> None:
    tariff = rates(input=1, output=1)  # a millionth of a nano-USD per token
    assert price(tariff=tariff).cost_nano_usd(Usage(input_tokens=1, output_tokens=1)) == 1
    assert price(tariff=tariff).cost_nano_usd(Usage(input_tokens=999_999, output_tokens=1)) == 1
    assert price(tariff=tariff).cost_nano_usd(Usage(input_tokens=1_000_000, output_tokens=1)) == 2
    assert price(tariff=tariff).cost_nano_usd(Usage()) == 0


def test_a_fee_per_request_counts_once_a_call() -> None:
    assert price(tariff=rates(input=USD, request=12_000 * USD)).cost_nano_usd(Usage(input_tokens=1)) == 12_001_000


def test_the_served_tier_prices_the_call_and_an_unknown_one_is_standard() -> None:
    flex = rates(input=600_000_000, output=5 * USD)
    usage = Usage(input_tokens=10, output_tokens=10)
    both = price(tiers={"flex": flex})
    assert both.cost_nano_usd(usage, "flex") == 6_000 + 50_000
    assert both.cost_nano_usd(usage, "default") == both.cost_nano_usd(usage) == 12_500 + 100_000
    assert both.knows_tier("flex") and both.knows_tier("auto") and not both.knows_tier("priority")


def test_a_price_by_the_hour_holds_in_its_hours_and_is_the_dearest_where_the_time_is_not_known() -> None:
    # DeepSeek: half price from 16:30 to 00:30 UTC.
    hourly = price(tariff=rates(input=200), hours=(Hours(59_400, 1_800, rates(input=100)),))
    million = Usage(input_tokens=1_000_000)
    assert [hourly.cost_nano_usd(million, at_s=at_s) for at_s in (0, 1_799, 1_800, 59_399, 59_400, 86_399)] == [
        100,
        100,
        200,
        200,
        100,
        100,
    ]
    assert hourly.cost_nano_usd(million) == 200


def test_pick_takes_the_newest_price_that_had_begun() -> None:
    prices = [price(id=1), price(id=2, effective_from_s=100), price(id=3, effective_from_s=200)]
    assert [found and found.id for found in (pick(prices, at_s) for at_s in (0, 99, 100, 199, 200, 10**10))] == [
        1,
        1,
        2,
        2,
        3,
        3,
    ]
    assert pick(prices[1:], 99) is None
    assert pick([], 0) is None


def test_the_ceiling_takes_a_context_step_only_if_the_input_can_reach_it() -> None:
    assert price().ceiling(272_000).input_rate == 1_250_000_000
    assert price().ceiling(272_001).input_rate == 2_500_000_000
    assert price().ceiling(272_001).output_rate == 15 * USD


def test_the_ceiling_of_a_named_premium_tier_is_never_below_standard() -> None:
    tiers = {"flex": rates(input=1, output=1), "priority": rates(input=3 * USD, output=20 * USD)}
    tiered = price(tiers=tiers)
    assert tiered.ceiling(10).output_rate == 10 * USD
    assert tiered.ceiling(10, "auto").output_rate == 10 * USD
    assert tiered.ceiling(10, "flex").output_rate == 10 * USD
    assert tiered.ceiling(10, "priority").output_rate == 20 * USD
    assert tiered.ceiling(10, "a tier of tomorrow").output_rate == 20 * USD


@pytest.mark.parametrize(("cache_writes", "input_rate"), [("", 100), ("5m", 125), ("1h", 200), ("implicit", 125)])
def test_cache_writes_count_only_where_they_can_happen(cache_writes: CacheWrites, input_rate: int) -> None:
    tariff = rates(input=100, cache_read=10, cache_write=125, cache_write_1h=200)
    assert price(tariff=tariff).ceiling(10, cache_writes=cache_writes).input_rate == input_rate


def test_media_rates_count_only_for_requests_with_media() -> None:
    tariff = rates(input=4, output=16, input_audio=32, output_audio=64)
    one = price(tariff=tariff)
    text, media, spoken = one.ceiling(10), one.ceiling(10, media=True), one.ceiling(10, media_output=True)
    assert (text.input_rate, text.output_rate) == (4, 16)
    assert (media.input_rate, media.output_rate) == (32, 64)
    assert (spoken.input_rate, spoken.output_rate) == (4, 64)


def test_the_ceiling_has_the_fees_of_requests_and_tools() -> None:
    tariff = rates(input=1, request=5_000 * USD, web_search=10_000 * USD, file_search=2_500 * USD)
    ceiling = price(tariff=tariff).ceiling(10)
    assert (ceiling.request_nano_usd, ceiling.tool_call_nano_usd) == (5_000_000, 10_000_000)
    assert ceiling.cost_nano_usd(1_000_000, 0, tool_calls=2) == 1 + 5_000_000 + 20_000_000


@pytest.mark.parametrize(
    ("tier", "each"), [("", 2), ("auto", 2), ("flex", 2), ("batch", 2), ("priority", 5), ("a tier of tomorrow", 7)]
)
def test_the_ceiling_of_units_is_that_of_the_dearest_tier_that_may_be_served(tier: str, each: int) -> None:
    tiers = {"flex": rates(pages=1 * USD), "priority": rates(pages=5 * USD), "fast": rates(pages=7 * USD)}
    one = price(tariff=rates(pages=2 * USD), tiers=tiers)
    assert one.units_ceiling([("pages", 3_000), ("images", 9)], tier) == 3_000 * each * 1_000


def test_audio_from_a_cache_costs_less_where_that_is_said_and_has_a_rate() -> None:
    """Of 1,000 tokens 500 are text, all fresh, and 500 audio, of which 400 were cached."""
    used = Usage(input_tokens=1_000, cache_read_tokens=400, input_audio_tokens=500, cache_read_audio_tokens=400)
    cheaper = rates(input=3, cache_read=1, input_audio=10, cache_audio_read=2)
    assert units(price(tariff=cheaper), used) == {"input": 500, "input_audio": 100, "cache_audio_read": 400}
    guessed = {"input": 100, "cache_read": 400, "input_audio": 500}
    assert units(price(tariff=cheaper), used._replace(cache_read_audio_tokens=0)) == guessed
    assert units(price(tariff=rates(input=3, cache_read=1, input_audio=10)), used) == guessed
    odd = used._replace(cache_read_audio_tokens=9_000)
    assert units(price(tariff=cheaper), odd) == {"input": 500, "input_audio": 100, "cache_audio_read": 400}


def units(of: Price, used: Usage) -> dict[str, int]:
    return {part.meter: part.units for part in of.parts(used)}


def test_searches_of_another_kind_cost_what_searches_do_unless_they_have_a_rate() -> None:
    used = Usage(web_search_calls=1, web_search_preview_calls=3)
    one, own = rates(web_search=10_000 * USD), rates(web_search=10_000 * USD, web_search_preview=25_000 * USD)
    assert price(tariff=one).cost_nano_usd(used) == 40_000_000
    assert price(tariff=own).cost_nano_usd(used) == 85_000_000
    assert price(tariff=own).ceiling(1).tool_call_nano_usd == 25_000_000
    parts = price(tariff=rates(input=1)).parts(used)
    assert [(part.meter, part.rate) for part in parts] == [("web_search", None), ("web_search_preview", None)]


def test_images_of_a_tool_are_billed_by_the_token_or_by_the_call_and_never_by_both() -> None:
    used = Usage(
        image_generation_calls=2, image_tool_text_tokens=100, image_tool_image_tokens=10, image_tool_output_tokens=1_000
    )
    by_call = rates(image_generation=250_000 * USD)
    both = rates(
        image_generation=250_000 * USD,
        image_tool_text_tokens=5 * USD,
        image_tool_image_tokens=8 * USD,
        image_tool_output_tokens=32 * USD,
    )
    assert price(tariff=by_call).cost_nano_usd(used) == 500_000_000
    assert price(tariff=both).cost_nano_usd(used) == 32_000_000 + 500_000 + 80_000
    unstated = Usage(image_generation_calls=2)
    assert price(tariff=both).cost_nano_usd(unstated) == 500_000_000


def test_only_who_may_make_images_holds_what_they_cost() -> None:
    tariff = rates(input=1, web_search=10_000 * USD, image_generation=250_000 * USD)
    ceiling = price(tariff=tariff).ceiling(10)
    assert ceiling.fees_nano_usd(10, image_tool=False) == 100_000_000
    assert ceiling.fees_nano_usd(10, image_tool=True) == 2_500_000_000


counts = st.integers(0, 3_000_000)
usages = st.builds(Usage, **dict.fromkeys(USAGE_CLASSES, counts))
some_rates = st.builds(
    Rate, st.integers(0, 10**12), st.sampled_from([(), ((200_000, 10**9),), ((32_000, 5), (128_000, 7))])
)
tariffs = st.builds(Tariff, st.dictionaries(st.sampled_from(METERS), some_rates, min_size=1))
prices = st.builds(
    Price,
    id=st.just(1),
    provider=st.just("p"),
    model=st.just("m"),
    source=st.just("admin"),
    effective_from_s=st.just(0),
    tariff=tariffs,
    tiers=st.dictionaries(st.sampled_from(["flex", "priority", "batch"]), tariffs),
    hours=st.lists(st.builds(Hours, counts, counts, tariffs), max_size=2).map(tuple),
)
tiers_served = st.sampled_from(["", "default", "flex", "priority", "batch"])


@given(prices, usages, tiers_served, st.none() | counts)
def test_the_parts_add_up_to_the_cost_and_to_the_tokens(
    any_price: Price, usage: Usage, tier: str, at_s: int | None
) -> None:
    parts = any_price.parts(usage, tier, at_s)
    cost = any_price.cost_nano_usd(usage, tier, at_s)
    assert 0 <= cost * 10**6 - sum(part.nano_e6 for part in parts) < 10**6
    assert all(part.units > 0 and part.nano_e6 == part.units * (part.rate or 0) for part in parts)
    inputs = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens")
    media = ("input_audio_tokens", "input_image_tokens", "input_video_tokens")
    largest = max(getattr(usage, name) for name in (*inputs, *media))
    assert sum(part.units for part in parts if part.meter.startswith(("input", "cache"))) == largest


@given(prices, usages, st.sampled_from(["", "flex", "priority"]))
def test_no_call_costs_more_than_its_ceiling(any_price: Price, usage: Usage, asked: str) -> None:
    names = [name for name in Usage._fields if name.endswith("_tokens")]
    input_tokens = max(getattr(usage, name) for name in names if name.startswith(("input", "cache")))
    output_tokens = max(getattr(usage, name) for name in names if name.startswith(("output", "reasoning")))
    calls = sum(getattr(usage, name) for name in USAGE_CLASSES if name.endswith("_calls"))
    units = any_price.units_ceiling([(meter, getattr(usage, meter)) for meter in UNIT_METERS], asked)
    ceiling = any_price.ceiling(input_tokens + 1000, asked, "1h", media=True)
    for served in {"", "default", asked}:
        for at_s in (None, 0, 50_000):
            cost = any_price.cost_nano_usd(usage, served, at_s)
            assert cost <= ceiling.cost_nano_usd(input_tokens, output_tokens, calls) + units


@given(tariffs, usages, counts, counts)
def test_more_tokens_never_cost_less(tariff: Tariff, usage: Usage, more_in: int, more_out: int) -> None:
    # Without steps (a cheaper one may follow) and rates of cached media (they may exceed what caching saves).
    cached_media = ("cache_audio_read", "cache_image_read")
    flat = {meter: Rate(rate.base) for meter, rate in tariff.rates.items() if meter not in cached_media}
    larger = usage._replace(input_tokens=usage.input_tokens + more_in, output_tokens=usage.output_tokens + more_out)
    both = [price(tariff=Tariff(flat)).cost_nano_usd(some) for some in (usage, larger)]
    assert both == sorted(both)


def test_what_had_to_be_served_in_the_us_costs_a_tenth_more_for_its_tokens() -> None:
    rates = {"input": Rate(5 * USD), "output": Rate(25 * USD), "web_search": Rate(10_000 * USD)}
    one = price(tariff=Tariff(rates), tiers={"fast": Tariff({"input": Rate(30 * USD), "output": Rate(150 * USD)})})
    used = Usage(input_tokens=1_000_000, output_tokens=1_000)
    searched = used._replace(web_search_calls=1)
    assert one.cost_nano_usd(used, "us") * 10 == one.cost_nano_usd(used) * 11
    assert one.cost_nano_usd(used, "fast us") * 10 == one.cost_nano_usd(used, "fast") * 11
    assert one.cost_nano_usd(searched, "us") - one.cost_nano_usd(used, "us") == USD // 100
    held = one.ceiling(1_000_000, "us")
    assert (held.input_rate * 10, held.output_rate * 10) == (55 * USD, 275 * USD)
    assert one.ceiling(1_000_000).input_rate == 5 * USD


def test_other_tiers_that_end_in_these_letters_cost_what_they_cost() -> None:
    one = price(tiers={"us": rates(input=7, output=70)})
    million = Usage(input_tokens=1_000_000)
    for tier in ("plus", "a bonus", "in.us"):
        assert one.cost_nano_usd(million, tier) == one.cost_nano_usd(million)
    assert one.ceiling(1, "plus").input_rate == one.ceiling(1).input_rate
    assert one.cost_nano_usd(million, "us") == 7, "a tier of that name in the price is that tier"


def test_a_price_by_the_token_has_two_sides_and_others_have_none() -> None:
    assert sides_missing({"input": 1, "output": 2, "cache_read": 1}) == ()
    assert sides_missing({"input": 1, "images": 1}) == ("output",)
    assert sides_missing({"reasoning": 1}) == ("input", "output")
    assert sides_missing({"images": 1, "request": 1}) == ()
