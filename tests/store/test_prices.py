from __future__ import annotations

import json
import random
import time
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import genai_prices
import pytest
from genai_prices.data import providers as genai_providers
from genai_prices.data_snapshot import get_snapshot

from llmctl.domain.errors import BadInput, StoreBroken
from llmctl.domain.money import parse_usd
from llmctl.domain.price import Hours, Rate, Tariff, pick
from llmctl.domain.usage import Usage
from llmctl.store import catalogue, database, price_edit, price_import, price_match, prices
from llmctl.store.catalogue import Catalogue
from llmctl.store.price_rows import PriceRow, Terms, decode, price_row, terms_row
from llmctl.store.prices import AdminSource

LENDS_TO = {"openai": ("azure",)}
NOW_S = 1_794_700_000  # 2026-11-14


@pytest.fixture
def store(tmp_path: Path) -> Iterator[database.Store]:
    path = tmp_path / "llmctl.db"
    database.create(path)
    opened = database.Store(path)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def genai() -> Catalogue:
    return catalogue.from_genai_prices()


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory, genai: Catalogue) -> Iterator[database.Store]:
    """A database with the whole catalogue, only read."""
    path = tmp_path_factory.mktemp("prices") / "llmctl.db"
    database.create(path)
    opened = database.Store(path)
    with opened.write() as tx:
        price_import.replace_source(tx, "catalogue", genai.rows, now_s=NOW_S)
    yield opened
    opened.close()


def row(model: str, usd: str, *, provider: str = "openai", **more: Any) -> PriceRow:
    return price_row(provider, model, {"input": parse_usd(usd)}, **more)


def set_input(tx: Any, usd: str, *, provider: str = "openai", model: str = "gpt-5", **more: Any) -> Any:
    return set_price(tx, provider, model, {"input": parse_usd(usd)}, **more)


def set_price(tx: Any, *of: Any, source: AdminSource = "admin", now_s: int = NOW_S, **more: Any) -> Any:
    return prices.put(tx, price_row(*of, **more), source, now_s=now_s)


def versions(store: database.Store) -> tuple[int, int]:
    found: tuple[int, int] = store.connection.execute(
        "SELECT prices_version, settings_version FROM settings"
    ).fetchone()
    return found


def found_rates(store: database.Store, model: str, *, provider: str = "openai", at_s: int = NOW_S) -> int | None:
    """The input rate that a call would be priced at."""
    with store.read() as tx:
        price = pick(prices.find(tx, provider, "openai", model), at_s)
    return None if price is None else price.tariff.rates["input"].base


# --- an admin's prices


def test_an_admins_price_goes_before_the_catalogues_and_gives_way_when_it_is_taken_back(
    store: database.Store,
) -> None:
    with store.write() as tx:
        price_import.replace_source(tx, "catalogue", [row("gpt-5", "1.25")], now_s=NOW_S)
        before, after = set_input(tx, "1")
    assert (before, after.source) == (None, "admin")
    assert found_rates(store, "gpt-5") == parse_usd("1")
    with store.write() as tx:
        assert prices.admin_prices(tx, "openai", "gpt-5") == [after]
        prices.remove_price(tx, after, now_s=NOW_S)
        assert prices.admin_prices(tx, "openai", "gpt-5") == []
    assert found_rates(store, "gpt-5") == parse_usd("1.25")


def test_a_name_goes_before_a_pattern_the_longest_pattern_before_others_and_the_provider_before_any(
    store: database.Store,
) -> None:
    with store.write() as tx:
        set_input(tx, "1", provider="*", model="gpt-5-mini")
        set_input(tx, "2", provider="*", model="gpt-*")
        assert (prices.find(tx, "openai", "", "gpt-5-mini")[0].tariff.rates["input"].base) == parse_usd("1")
        set_input(tx, "3", model="gpt-*")
        set_input(tx, "4", model="GPT-5*")
        set_input(tx, "5", model="gpt-5-nano")
    assert found_rates(store, "gpt-5-nano") == parse_usd("5")
    assert found_rates(store, "gpt-5-mini") == parse_usd("4")
    assert found_rates(store, "GPT-4") == parse_usd("3")
    assert found_rates(store, "gpt-4", provider="azure") == parse_usd("2")
    assert found_rates(store, "o3") is None


def test_before_the_date_of_an_admins_price_the_catalogue_still_holds(store: database.Store) -> None:
    with store.write() as tx:
        rows = [
            row("gpt-5", "1"),
            row("gpt-5", "2", effective_from_s=500),
            row("gpt-5", "9", effective_from_s=2000),
        ]
        price_import.replace_source(tx, "catalogue", rows, now_s=NOW_S)
        set_input(tx, "3", effective_from_s=1000)
    at = {at_s: found_rates(store, "gpt-5", at_s=at_s) for at_s in (0, 500, 999, 1000, 3000)}
    assert at == {
        0: parse_usd("1"),
        500: parse_usd("2"),
        999: parse_usd("2"),
        1000: parse_usd("3"),
        3000: parse_usd("3"),
    }


def test_a_price_that_is_put_right_without_a_date_is_the_one_in_force(store: database.Store) -> None:
    def put_right(model: str, **rates: str) -> None:
        sellers = [price_edit.Seller("openai", "openai")]
        named = {meter: parse_usd(usd) for meter, usd in rates.items()}
        price_edit.set_rates(tx, provider="openai", sellers=sellers, model=model, rates=named, now_s=NOW_S)

    with store.write() as tx:
        rows = [row("gpt-5", "1"), row("gpt-5", "2", effective_from_s=500)]
        price_import.replace_source(tx, "catalogue", rows, now_s=NOW_S)
        put_right("gpt-5", input="3")
        set_input(tx, "4", model="gpt-4")
        set_input(tx, "5", model="gpt-4", effective_from_s=1000)
        set_input(tx, "9", model="gpt-4", effective_from_s=NOW_S + 1)
        put_right("gpt-4", input="6")
    assert [found_rates(store, "gpt-5", at_s=at_s) for at_s in (499, 500, NOW_S)] == [
        parse_usd(usd) for usd in ("1", "3", "3")
    ]
    assert [found_rates(store, "gpt-4", at_s=at_s) for at_s in (999, 1000, NOW_S, NOW_S + 1)] == [
        parse_usd(usd) for usd in ("4", "6", "6", "9")
    ]


def test_an_admins_price_keeps_what_the_catalogue_knows_of_the_model(store: database.Store) -> None:
    with store.write() as tx:
        known = row("gpt-5", "1", context_tokens=400_000, output_tokens_max=128_000)
        price_import.replace_source(tx, "catalogue", [known], now_s=NOW_S)
        set_input(tx, "2", output_tokens_max=1000)
        (price,) = prices.find(tx, "openai", "openai", "gpt-5")
    assert (price.context_tokens, price.output_tokens_max) == (400_000, 1000)


def test_setting_a_price_again_supersedes_it_and_the_old_one_stays_readable(store: database.Store) -> None:
    with store.write() as tx:
        _, first = set_input(tx, "1")
        before, second = set_input(tx, "2", now_s=NOW_S + 5)
        assert before == first
        assert prices.get(tx, first.id) == first
        history = prices.list_prices(tx, model="gpt-5", superseded=True)
        assert [entry.price for entry in prices.list_prices(tx)] == [second]
        assert prices.get(tx, 999) is None
    assert [(entry.price.id, entry.superseded_at_s) for entry in history] == [
        (first.id, NOW_S + 5),
        (second.id, None),
    ]


def test_the_daemon_is_told_only_of_changes(store: database.Store) -> None:
    before = versions(store)
    with store.write() as tx:
        _, first = set_input(tx, "1")
        price_import.replace_source(tx, "catalogue", [row("a", "1"), row("b", "1")], now_s=NOW_S)
    assert versions(store) == (before[0] + 2, before[1] + 2)
    with store.write() as tx:
        assert set_input(tx, "1", now_s=NOW_S + 1) == (first, first)
        price_import.replace_source(tx, "catalogue", [row("a", "1"), row("b", "1")], now_s=NOW_S + 1)
    assert versions(store) == (before[0] + 2, before[1] + 2)
    with store.write() as tx:  # another order: of two that match, another one wins
        price_import.replace_source(tx, "catalogue", [row("b", "1"), row("a", "1")], now_s=NOW_S + 2)
    assert versions(store) == (before[0] + 3, before[1] + 3)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rates": {}}, "no rate"),
        ({"rates": {"inputs": 1}}, "inputs"),
        ({"rates": {"input": -1}}, "-1"),
        ({"rates": {"input": 10**16}}, str(10**16)),
        ({"rates": {"input": 1.5}}, "1.5"),
        ({"rates": {"input": True}}, "True"),
        ({"model": ""}, "model"),
        ({"model": "a\nb"}, "model"),
        ({"model": "x" * 201}, "model"),
        ({"provider": "\ud800"}, "provider"),
        ({"context_tokens": -1}, "tokens"),
        ({"output_tokens_max": 2.0}, "tokens"),
        ({"effective_from_s": -1}, "moment"),
    ],
)
def test_a_price_that_cannot_be_used_is_refused(store: database.Store, changes: dict[str, Any], says: str) -> None:
    whole = {"provider": "openai", "model": "gpt-5", "rates": {"input": 1}, **changes}
    with store.write() as tx, pytest.raises(BadInput, match=says):
        set_price(tx, *(whole.pop(name) for name in ("provider", "model", "rates")), **whole)


def test_an_hour_keeps_its_own_rates_and_follows_in_the_others(store: database.Store) -> None:
    day, night = Tariff({"input": Rate(4), "output": Rate(8)}), Tariff({"input": Rate(2), "output": Rate(8)})
    row = terms_row("openai", "gpt-5", Terms(day, hours=(Hours(0, 3_600, night),)))
    with store.write() as tx:
        prices.put(tx, row, "admin", now_s=NOW_S)
        _, after = price_edit.set_rates(
            tx, provider="openai", sellers=[], model="gpt-5", rates={"input": 5, "output": 9}, now_s=NOW_S
        )
    assert after.tariff == Tariff({"input": Rate(5), "output": Rate(9)})
    assert after.hours[0].tariff == Tariff({"input": Rate(2), "output": Rate(9)})


# --- imports


def test_an_import_keeps_what_is_the_same_and_supersedes_what_is_not(store: database.Store) -> None:
    with store.write() as tx:
        set_input(tx, "7", model="kept")
        first = price_import.replace_source(
            tx, "catalogue", [row("kept", "1"), row("changed", "1"), row("gone", "1")], now_s=100
        )
        ids = {entry.price.model: entry.price.id for entry in prices.list_prices(tx, source="catalogue")}
        second = price_import.replace_source(
            tx, "catalogue", [row("new", "1"), row("kept", "1"), row("changed", "2")], now_s=200
        )
        after = {entry.price.model: entry.price.id for entry in prices.list_prices(tx, source="catalogue")}
        old = prices.get(tx, ids["changed"])
        superseded = [e.price.model for e in prices.list_prices(tx, superseded=True) if e.superseded_at_s == 200]
    assert (first.added, first.changed, first.removed, first.unchanged) == (3, 0, 0, 0)
    assert (second.added, second.changed, second.removed, second.unchanged) == (1, 1, 1, 1)
    assert after["kept"] == ids["kept"] and after["changed"] != ids["changed"]
    assert old is not None and old.tariff.rates["input"].base == parse_usd("1")
    assert sorted(superseded) == ["changed", "gone"]
    assert found_rates(store, "kept") == parse_usd("7")  # the admin's


def test_an_import_of_one_source_leaves_the_other_alone(store: database.Store) -> None:
    with store.write() as tx:
        price_import.replace_source(tx, "catalogue", [row("gpt-5", "1")], now_s=NOW_S)
        summary = price_import.replace_source(
            tx, "sandbox", [row("sandbox-small", "0.25", provider="sandbox")], now_s=NOW_S
        )
        (price,) = prices.find(tx, "sandbox", "", "sandbox-small")
    assert (summary.added, summary.removed, price.source) == (1, 0, "sandbox")
    assert found_rates(store, "gpt-5") == parse_usd("1")


def test_a_bad_row_changes_nothing(store: database.Store) -> None:
    bad = PriceRow("openai", "b", '{"equals":"b"}', 0, '{"input":1.5}')
    with store.write() as tx:
        price_import.replace_source(tx, "catalogue", [row("a", "1")], now_s=NOW_S)
        for rows in ([bad], [row("a", "1"), row("a", "2")]):
            with pytest.raises(BadInput):
                price_import.replace_source(tx, "catalogue", rows, now_s=NOW_S)
        assert [entry.price.model for entry in prices.list_prices(tx)] == ["a"]


def test_the_first_of_two_models_that_match_wins_also_after_a_later_import(store: database.Store) -> None:
    general = PriceRow("openai", "gpt", '{"starts_with":"gpt"}', 0, '{"input":1}')
    special = PriceRow("openai", "gpt-5", '{"equals":"gpt-5"}', 0, '{"input":2}')
    with store.write() as tx:
        price_import.replace_source(tx, "catalogue", [general], now_s=NOW_S)
        price_import.replace_source(tx, "catalogue", [special, general], now_s=NOW_S)
    assert (found_rates(store, "gpt-5"), found_rates(store, "gpt-4")) == (2, 1)


def test_prices_are_listed_by_provider_and_part_of_the_name(store: database.Store) -> None:
    with store.write() as tx:
        rows = [row("gpt-5", "1"), row("gpt-4", "1"), row("GPT-5", "1", provider="azure")]
        price_import.replace_source(tx, "catalogue", rows, now_s=NOW_S)
        by_model = prices.list_prices(tx, model="T-5")
        by_both = prices.list_prices(tx, model="gpt", provider="OpenAI")
    assert [(entry.price.provider, entry.price.model) for entry in by_model] == [
        ("azure", "GPT-5"),
        ("openai", "gpt-5"),
    ]
    assert [entry.price.model for entry in by_both] == ["gpt-4", "gpt-5"]


def test_a_damaged_row_says_so(store: database.Store) -> None:
    with store.write() as tx:
        set_input(tx, "1")
        tx.execute("""UPDATE prices SET terms = '{"input":"1"}'""")
        with pytest.raises(StoreBroken, match="price 1 in the database is damaged"):
            prices.find(tx, "openai", "", "gpt-5")


# --- clauses


@pytest.mark.parametrize(
    ("clause", "model", "fits"),
    [
        ({"equals": "GPT-5"}, "gpt-5", True),
        ({"equals": "gpt-5"}, "gpt-5-mini", False),
        ({"starts_with": "gpt-"}, "GPT-5", True),
        ({"ends_with": "-MINI"}, "gpt-5-mini", True),
        ({"contains": "5"}, "gpt-5-mini", True),
        ({"regex": r"^gpt-5-\d{4}-\d{2}-\d{2}$"}, "GPT-5-2025-08-07", True),
        ({"glob": "grok-4.7[fast=*]"}, "grok-4.7[fast=true]", True),
        ({"glob": "gpt-?"}, "gpt-5", True),
        ({"glob": "gpt-?"}, "gpt-50", False),
        ({"or": [{"equals": "a"}, {"equals": "b"}]}, "b", True),
        ({"and": [{"starts_with": "a"}, {"ends_with": "b"}]}, "ab", True),
        ({"and": [{"starts_with": "a"}, {"ends_with": "b"}]}, "a", False),
    ],
)
def test_clauses_match_as_in_genai_prices(clause: object, model: str, fits: bool) -> None:
    assert price_match.matches(clause, model) is fits
    assert price_match.problem(clause) == ""


@pytest.mark.parametrize(
    "clause",
    [
        None,
        {},
        [],
        "gpt-5",
        {"equals": "a", "contains": "b"},
        {"equals": 5},
        {"equals": ""},
        {"like": "a"},
        {"or": []},
        {"and": "a"},
        {"or": [{"equals": "a"}, {"nothing": "b"}]},
        {"or": [{"or": [{"or": [{"or": [{"or": [{"or": [{"or": [{"or": [{"or": [{"equals": "a"}]}]}]}]}]}]}]}]}]},
        {"regex": "("},
        {"regex": "a" * 201},
        {"regex": "(a+)+$"},
        {"regex": "(a|aa){1,50}$"},
        {"regex": ".*.*.*x"},
        {"regex": "(?x)(a+) +$"},
        {"regex": r"(a*)\1b"},
        {"regex": "a?a?a?a?a?aaaaa"},
    ],
)
def test_a_bad_clause_is_named_and_never_runs_for_long(clause: object) -> None:
    assert price_match.problem(clause)
    started_s = time.monotonic()
    price_match.matches(clause, "a" * 200 + "!")
    assert time.monotonic() - started_s < 0.5


# --- the catalogue of genai-prices


def test_the_whole_catalogue_is_taken_over(genai: Catalogue) -> None:
    models = {(row.provider, row.model) for row in genai.rows}
    own = {(provider.id, model.id) for provider in genai_providers for model in provider.models}
    assert len(own) - len(own & models) == genai.notes["model skipped: no rate that we can meter"] < 60
    assert genai.origin.startswith("genai-prices ")
    assert not [reason for reason in genai.notes if "regex" in reason or "clause" in reason]


def test_a_model_of_the_catalogue_without_any_rate_is_unpriced_unless_it_is_known_to_be_free(
    full: database.Store,
) -> None:
    with full.read() as tx:
        assert prices.find(tx, "google", "google", "lyria-3-pro-preview") == ()
        (free,) = prices.find(tx, "openrouter", "openrouter", "openai/gpt-oss-20b:free")
    assert free.cost_nano_usd(Usage(input_tokens=1000, output_tokens=1000)) == 0


def test_the_same_models_are_found_as_by_genai_prices(full: database.Store) -> None:
    snapshot, names = get_snapshot(), random.Random(7)
    unpriced = 0
    with full.read() as tx:
        for provider in genai_providers:
            few = names.sample(provider.models, min(40, len(provider.models)))
            refs = [model.id for model in few] + [f"{model.id}-20260101" for model in few] + ["no-such-model"]
            for other in provider.fallback_model_providers or ():
                refs += [model.id for p in genai_providers if p.id == other for model in p.models]
            for ref in refs:
                expected = provider.find_model(ref, all_providers=snapshot.providers)
                found = prices.find(tx, "me", provider.id, ref)
                if expected is None:
                    assert found == (), (provider.id, ref)
                elif not found:
                    unpriced += 1  # known, but with no rate that we can meter
                else:
                    assert {price.model for price in found} == {expected.id}, (provider.id, ref)
    assert unpriced < 60


def _usages(picks: random.Random) -> tuple[Usage, genai_prices.Usage]:
    """One random usage, in our form and in theirs."""
    total = int(10 ** picks.uniform(0, 6))
    read, written = (int(total * share) for share in sorted(picks.random() / 2 for _ in range(2)))
    hour = picks.choice([0, written, written // 3])
    audio = image = 0
    if picks.random() < 0.3:  # with cached tokens, theirs wants to know how many of these are cached
        read = written = hour = 0
        audio, image = total // 5, total // 7
    output = int(10 ** picks.uniform(0, 5))
    reasoning = output // picks.choice([1, 2, 3])
    web, files = picks.choice([0, 1, 3]), picks.choice([0, 2])
    ours = Usage(
        input_tokens=total,
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=hour,
        input_audio_tokens=audio,
        input_image_tokens=image,
        output_tokens=output,
        reasoning_tokens=reasoning,
        web_search_calls=web,
        file_search_calls=files,
    )
    theirs = genai_prices.Usage(
        input_tokens=total,
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_5m_tokens=written - hour,
        cache_write_1h_tokens=hour,
        input_audio_tokens=audio,
        input_image_tokens=image,
        output_tokens=output,
        output_reasoning_tokens=reasoning,
        web_searches=web,
        storage_searches=files,
    )
    return ours, theirs


TIERS: tuple[tuple[str, dict[str, str]], ...] = (
    ("", {}),
    ("flex", {"service_tier": "flex"}),
    ("priority", {"service_tier": "priority"}),
    ("fast", {"service_tier": "fast", "speed": "fast"}),
    ("batch", {"processing": "batch"}),
)


def test_costs_are_those_of_genai_prices_rounded_up(full: database.Store) -> None:
    """Over about 400 models, dates from 2024 to 2027, hours and tiers. Where we add documented fees that the
    catalogue lacks, only the input is compared; those of requests are not.
    """
    fees = [entry for entry in additions()["fees"] if "tier" not in entry]
    picks = random.Random(11)
    compared = 0
    with full.read() as tx:
        for provider in genai_providers:
            for model in picks.sample(provider.models, min(12, len(provider.models))):
                ours_too = [
                    entry
                    for entry in fees
                    if any(fnmatchcase(model.id, pattern) for pattern in entry["models"])
                    and provider.id in (entry["provider"], *LENDS_TO.get(entry["provider"], ()))
                ]
                if any("request" in entry.get("usd_per_thousand", {}) for entry in ours_too):
                    continue
                found = prices.find(tx, "me", provider.id, model.id)
                for _ in range(5 if found else 0):
                    at_s = picks.randrange(1_704_067_200, 1_830_297_600)
                    ours, theirs = _usages(picks)
                    tier, context = picks.choice(TIERS)
                    if ours_too:
                        ours, theirs = (
                            Usage(ours.input_tokens),
                            genai_prices.Usage(input_tokens=ours.input_tokens),
                        )
                    price = pick(found, at_s)
                    assert price is not None
                    expected = genai_prices.calc_price(
                        theirs,
                        model.id,
                        provider_id=provider.id,
                        genai_request_timestamp=datetime.fromtimestamp(at_s, UTC),
                        price_context=context,
                    ).total_price
                    cost = price.cost_nano_usd(ours, tier, at_s)
                    exact = expected * 10**9
                    # A few of their rates went through a float: 16 digits.
                    assert exact - exact / 10**7 <= cost <= exact + exact / 10**7 + 1, (
                        provider.id,
                        model.id,
                        tier,
                    )
                    compared += 1
    assert compared > 1500


def additions() -> dict[str, Any]:
    return tomllib.loads(Path(catalogue.__file__).with_name("catalogue_additions.toml").read_text())


def test_documented_models_and_fees_say_where_they_are_from_and_are_needed(genai: Catalogue) -> None:
    own = {(provider.id, model.id) for provider in genai_providers for model in provider.models}
    for entry in additions()["models"]:
        assert entry["source"].startswith("https://")
        assert not own & {(entry["provider"], model) for model in entry["models"]}, entry
    for entry in additions()["fees"]:
        assert entry["source"].startswith("https://")
        named = [pattern for pattern in entry["models"] if any(fnmatchcase(model, pattern) for _, model in own)]
        assert named, entry


# As much was cached: it may be the other half.
HALF_AUDIO = Usage(input_tokens=1_000_000, cache_read_tokens=500_000, input_audio_tokens=500_000)


@pytest.mark.parametrize(
    ("provider", "model", "usage", "usd"),
    [
        ("openai", "dall-e-3", Usage(images=2), "0.24"),
        ("openai", "gpt-5", Usage(code_interpreter_calls=1, file_search_calls=2, web_search_calls=1), "0.045"),
        ("openai", "gpt-5", Usage(image_generation_calls=1), "0.25"),
        ("openai", "gpt-5", Usage(image_generation_calls=1, image_tool_output_tokens=272), "0.008704"),
        ("openai", "gpt-5", Usage(image_generation_calls=1, image_tool_output_tokens=100_000), "3.2"),
        ("openai", "gpt-4.1-mini", Usage(web_search_calls=1), "0.01"),
        ("openai", "gpt-4.1-mini", Usage(web_search_preview_calls=1), "0.025"),
        ("azure", "gpt-4o", Usage(web_search_preview_calls=1), "0.025"),
        ("openai", "gpt-5", Usage(web_search_preview_calls=1), "0.01"),
        ("openai", "o4-mini", Usage(web_search_preview_calls=1), "0.01"),
        ("openai", "gpt-4o-search-preview", Usage(), "0.025"),
        ("openai", "gpt-4o-mini-search-preview", Usage(), "0.025"),
        ("openai", "gpt-4o-mini-search-preview-2025-03-11", Usage(input_tokens=1_000_000), "0.175"),
        ("openai", "gpt-4o-mini", Usage(), "0"),
        ("azure", "gpt-5", Usage(code_interpreter_calls=1), "0.03"),
        ("openai", "omni-moderation-latest", Usage(input_tokens=1_000), "0"),
        ("openai", "gpt-4o-audio-preview", Usage(input_tokens=1_000_000, input_audio_tokens=1_000_000), "40"),
        ("openai", "gpt-4o-mini-transcribe", Usage(input_tokens=1_000_000, input_audio_tokens=1_000_000), "3"),
        ("cohere", "rerank-v3.5", Usage(search_units=3), "0.006"),
        ("cohere", "embed-english-v3.0", Usage(input_tokens=1_000_000), "0.1"),
        ("google", "gemini-embedding-001", Usage(input_tokens=1_000_000), "0.15"),
        ("google", "gemini-embedding-2", Usage(input_tokens=1_000_000, input_video_tokens=1_000_000), "12"),
        ("google", "gemini-embedding-2", Usage(input_tokens=1_000_000, input_audio_tokens=1_000_000), "6.5"),
        ("google", "gemini-embedding-2", Usage(input_tokens=1_000_000, input_image_tokens=1_000_000), "0.45"),
        ("google", "gemini-2.5-flash", Usage(input_tokens=1_000_000, input_video_tokens=1_000_000), "0.3"),
        ("google", "gemini-2.5-flash", HALF_AUDIO, "0.515"),
        ("google", "gemini-2.5-flash", HALF_AUDIO._replace(cache_read_audio_tokens=500_000), "0.2"),
        ("google", "imagen-4.0-generate-001", Usage(images=1), "0.04"),
        ("google", "gemini-3.5-flash", Usage(web_search_calls=1), "0.014"),
        ("google", "gemini-3.5-flash", Usage(map_search_calls=1), "0.014"),
        ("google", "gemini-2.5-pro", Usage(web_search_calls=1), "0.035"),
        ("google", "gemini-2.5-pro", Usage(map_search_calls=1), "0.025"),
        ("google", "gemini-2.5-flash-lite", Usage(map_search_calls=1, web_search_calls=1), "0.06"),
        ("mistral", "mistral-ocr-latest", Usage(pages=1_000), "4"),
        ("mistral", "mistral-moderation-latest", Usage(input_tokens=1_000_000), "0.1"),
        ("groq", "whisper-large-v3", Usage(audio_seconds=3_600), "0.111000001"),
        ("openrouter", "openai/text-embedding-3-small", Usage(input_tokens=1_000_000), "0.02"),
        ("openrouter", "openai/text-embedding-3-small:nitro", Usage(input_tokens=1_000_000), "0.02"),
    ],
)
def test_what_the_endpoints_beside_chat_bill_has_a_price(
    full: database.Store, provider: str, model: str, usage: Usage, usd: str
) -> None:
    with full.read() as tx:
        price = pick(prices.find(tx, "me", provider, model), NOW_S)
    assert price is not None
    assert price.cost_nano_usd(usage) == parse_usd(usd)


def test_the_provider_behind_a_router_has_rates_of_its_own_and_may_be_any(full: database.Store) -> None:
    with full.read() as tx:
        price = pick(prices.find(tx, "me", "openrouter", "moonshotai/kimi-k2"), NOW_S)
    assert price is not None
    usage = Usage(input_tokens=1_000_000)
    assert price.cost_nano_usd(usage, "via Novita") == parse_usd("0.57")
    assert price.cost_nano_usd(usage, "via Fireworks") == parse_usd("0.60")
    assert price.ceiling(1_000).input_rate == parse_usd("0.60")  # nobody asks for it: it happens


def test_documented_limits_are_taken_over_and_name_models_that_exist(genai: Catalogue) -> None:
    known = {(row.provider, row.model): row for row in genai.rows}
    for entry in additions()["limits"]:
        assert entry["source"].startswith("https://")
        for model in entry["models"]:
            row = known[entry["provider"], model]
            assert row.output_tokens_max == entry["output_tokens_max"]
            assert (row.context_tokens or 0) >= entry.get("context_tokens", 0)
    assert known["azure", "gpt-5-mini"].output_tokens_max == 128_000
    assert known["google", "gemini-4-argon"].output_tokens_max is None


def test_documented_fees_fill_the_catalogues_gaps(full: database.Store) -> None:
    with full.read() as tx:
        grok = pick(prices.find(tx, "xai", "x-ai", "grok-4.3"), NOW_S)
        sonar = pick(prices.find(tx, "perplexity", "perplexity", "sonar"), NOW_S)
    assert grok is not None and sonar is not None
    assert grok.cost_nano_usd(Usage(web_search_calls=2)) == 10_000_000
    fees = [sonar.cost_nano_usd(Usage(), size) for size in ("low", "medium", "high", "")]
    assert fees == [5_000_000, 8_000_000, 12_000_000, 12_000_000]
    assert sonar.ceiling(1).request_nano_usd == 12_000_000


def test_prices_by_the_hour_are_told_apart(full: database.Store) -> None:
    with full.read() as tx:
        price = pick(prices.find(tx, "deepseek", "deepseek", "deepseek-chat"), NOW_S)
    assert price is not None
    million, midnight_s = Usage(input_tokens=1_000_000), NOW_S - NOW_S % 86_400
    by_hour = {hour: price.cost_nano_usd(million, at_s=midnight_s + hour * 3600) for hour in (0, 1, 16, 17)}
    assert by_hour == {0: 135_000_000, 1: 270_000_000, 16: 270_000_000, 17: 135_000_000}
    assert price.ceiling(1).input_rate == 270_000_000


def test_rates_that_went_through_a_float_are_put_right(genai: Catalogue) -> None:
    (terms,) = {
        row.terms
        for row in genai.rows
        if (row.provider, row.model) == ("huggingface_together", "Qwen/Qwen3-VL-8B-Instruct")
    }
    assert decode(terms).tariff.rates["input"] == Rate(180_000_000)  # 0.18000000000000002 there


def test_an_import_of_the_whole_catalogue_changes_nothing_the_second_time(
    store: database.Store, genai: Catalogue
) -> None:
    with store.write() as tx:
        first = price_import.replace_source(tx, "catalogue", genai.rows, now_s=NOW_S)
        second = price_import.replace_source(tx, "catalogue", genai.rows, now_s=NOW_S)
    assert first.added == second.unchanged == len(genai.rows)
    assert second.added == second.changed == second.removed == 0


# --- files, for machines without a network


def test_a_catalogue_survives_the_way_through_a_file(tmp_path: Path, genai: Catalogue) -> None:
    path = tmp_path / "prices.json"
    path.write_text(catalogue.to_json(genai))
    again = catalogue.from_file(path)
    assert (again.rows, again.origin) == (genai.rows, genai.origin)


ROW = {"provider": "p", "model": "m", "match": {"equals": "m"}, "effective_from": 0, "terms": {"input": 1}}


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([[]], "row 1: a row is an object"),
        ([ROW, {**ROW, "model": 5}], "row 2: model is a text"),
        ([{"provider": "p"}], "row 1: effective_from is missing"),
        ([{**ROW, "terms": {"input": 1.5}}], "1.5 is not an integer"),
        ([{**ROW, "terms": {"input": {"base": 1, "steps": [[5, 1], [5, 2]]}}}], "steps ascend"),
        ([{**ROW, "terms": {"input": {"base": 1, "step": []}}}], "base and steps"),
        ([{**ROW, "terms": {"tiers": {"flex": {"input": 1}}}}], "no rate"),
        ([{**ROW, "terms": {"input": 1, "hours": [{"from": 0, "to": 86400, "rates": {}}]}}], "86400"),
        ([{**ROW, "match": {"like": "m"}}], "like"),
        ([{**ROW, "context_tokens": "many"}], "many"),
        ([{**ROW, "model": "\ud800"}], "model"),
    ],
)
def test_a_bad_file_names_the_row(tmp_path: Path, rows: list[Any], says: str) -> None:
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"format": catalogue.FILE_FORMAT, "rows": rows}))
    with pytest.raises(BadInput, match=says) as caught:
        catalogue.from_file(path)
    assert str(path) in caught.value.message


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"[]", b"{}", b'{"format":"other","rows":[]}', b"[" * 100_000])
def test_a_file_that_is_no_price_list_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "prices.json"
    path.write_bytes(data)
    with pytest.raises(BadInput, match=r"prices\.json"):
        catalogue.from_file(path)
    with pytest.raises(BadInput, match="cannot read"):
        catalogue.from_file(tmp_path / "none.json")


def test_a_regex_that_could_run_for_long_is_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "prices.json"
    rows = [ROW, {**ROW, "model": "evil", "match": {"or": [{"regex": "(a+)+$"}]}}]
    path.write_text(json.dumps({"format": catalogue.FILE_FORMAT, "rows": rows}))
    read = catalogue.from_file(path)
    assert [row.model for row in read.rows] == ["m"]
    assert list(read.notes.values()) == [1]


def test_openrouter_bills_the_searches_and_requests_of_the_providers_behind_it(full: database.Store) -> None:
    with full.read() as tx:
        searching = pick(prices.find(tx, "openrouter", "openrouter", "openai/gpt-5.2"), NOW_S)
        sonar = pick(prices.find(tx, "openrouter", "openrouter", "perplexity/sonar"), NOW_S)
    assert searching is not None and sonar is not None
    assert searching.cost_nano_usd(Usage(web_search_calls=3)) == 30_000_000
    with full.read() as tx:
        free = pick(prices.find(tx, "openrouter", "openrouter", "openai/gpt-oss-20b:free"), NOW_S)
        other = pick(prices.find(tx, "openrouter", "openrouter", "meta-llama/llama-3.2-1b-instruct"), NOW_S)
    assert free is not None and other is not None
    assert free.ceiling(0).fees_nano_usd(1, image_tool=False) == 10_000_000
    assert other.ceiling(0).fees_nano_usd(1, image_tool=False) == 20_000_000
    assert other.units_ceiling((("pages", 1_000), ("web_search", 2))) == 2_040_000_000
    assert sonar.cost_nano_usd(Usage(input_tokens=7, output_tokens=236)) == 5_243_000


def test_what_is_billed_by_the_minute_or_the_character_has_its_own_meter(full: database.Store) -> None:
    with full.read() as tx:
        ear, mouth = (pick(prices.find(tx, "openai", "openai", name), NOW_S) for name in ("whisper-1", "tts-1-hd"))
    assert ear is not None and mouth is not None
    assert ear.cost_nano_usd(Usage(audio_seconds=60)) == parse_usd("0.006")
    assert mouth.cost_nano_usd(Usage(characters=1_000_000)) == parse_usd("30")
