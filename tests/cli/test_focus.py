"""`usage -o focus`, over what the real ledger booked, at prices that an admin set."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from llmctl.domain.usage import Usage

from .conftest import Cli
from .shop import DAY_S, DOLLAR, NOW_S, Shop

# FOCUS 1.4, dataset "Cost and Usage": columns that are mandatory, and of those whether they may be empty.
MANDATORY = {
    "BilledCost": False,
    "BillingAccountId": False,
    "BillingAccountName": True,
    "BillingCurrency": False,
    "BillingPeriodEnd": False,
    "BillingPeriodStart": False,
    "ChargeCategory": False,
    "ChargeClass": True,
    "ChargeDescription": True,
    "ChargePeriodEnd": False,
    "ChargePeriodStart": False,
    "ContractedCost": False,
    "EffectiveCost": False,
    "HostProviderName": False,
    "InvoiceIssuerName": False,
    "ListCost": False,
    "PricingQuantity": True,
    "PricingUnit": True,
    "ServiceCategory": False,
    "ServiceName": False,
    "ServiceProviderName": False,
}


@pytest.fixture
async def shop(empty: Path) -> None:
    async with Shop(empty / "llmctl.db") as shop:
        shop.group("emea", timezone="Europe/Berlin")
        shop.user("dora", "emea")
        shop.user("solo")
        cached = Usage(input_tokens=1_000, cache_read_tokens=400, cache_write_tokens=100, output_tokens=200)
        await shop.call("dora", at_s=NOW_S - NOW_S % DAY_S - 1_800, cost=1_000_001, usage=cached)
        await shop.call("dora", cost=5 * DOLLAR, usage=Usage(input_tokens=10, cache_read_tokens=32, output_tokens=1))
        await shop.call("solo", cost=None)
        await shop.call("solo", model="dall-e", cost=DOLLAR, usage=Usage(image_generation_calls=1))
        await shop.call("solo", status=500, error="server_error", cost=0, usage=Usage(), usage_source=None)


def charges(cli: Cli, *flags: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(cli("usage", "-o", "focus", *flags).out)))


@pytest.mark.usefixtures("shop")
class TestFocus:
    def test_mandatory_columns_are_there_in_order_and_filled(self, cli: Cli) -> None:
        rows = charges(cli)
        ours = [name for name in rows[0] if name.startswith("x_")]
        standard = [name for name in rows[0] if name not in ours]
        assert standard == sorted(standard)
        assert set(MANDATORY) <= set(standard)
        for row in rows:
            assert all(row[name] for name, may_be_empty in MANDATORY.items() if not may_be_empty), row

    def test_costs_and_quantities_add_up_to_the_report(self, cli: Cli) -> None:
        cli("price", "set", "openai/gpt-5", "--input", "1", "--output", "10", "--cache-read", "0.1")
        rows, report = charges(cli), cli.json("usage", "--by", "model")
        assert sum(Decimal(row["BilledCost"]) for row in rows) == sum(
            Decimal(row["cost_usd"]) for row in report if row["cost_usd"] is not None
        )
        tokens = sum(int(row["ConsumedQuantity"]) for row in rows if row["ConsumedUnit"] == "Tokens")
        assert tokens == sum(row["input_tokens"] + row["output_tokens"] for row in report)
        assert sum(int(row["x_Calls"]) for row in rows) == sum(row["calls"] for row in report)
        assert sum(int(row["x_UnpricedCalls"]) for row in rows) == 1

    def test_meters_are_disjoint_and_carry_their_list_price(self, cli: Cli) -> None:
        cli("price", "set", "openai/gpt-5", "--input", "1", "--output", "10", "--cache-read", "0.1")
        rows = {row["SkuMeter"]: row for row in charges(cli, "--user", "dora", "--until", "2026-11-23T08:00:00Z")}
        quantities = {meter: int(row["ConsumedQuantity"]) for meter, row in rows.items()}
        assert quantities == {
            "Input Tokens": 500,
            "Cache Read Tokens": 400,
            "Cache Write Tokens": 100,
            "Output Tokens": 200,
        }
        assert rows["Cache Read Tokens"]["ListUnitPrice"] == "0.10"
        assert rows["Cache Read Tokens"]["ListCost"] == "0.000040000"
        assert rows["Output Tokens"]["SkuPriceId"].startswith("openai/gpt-5/output/")

    def test_days_and_months_are_those_of_the_group_in_utc(self, cli: Cli) -> None:
        row = charges(cli, "--group", "emea")[0]
        assert (row["ChargePeriodStart"], row["ChargePeriodEnd"]) == ("2026-11-22T23:00:00Z", "2026-11-23T23:00:00Z")
        assert (row["BillingPeriodStart"], row["BillingPeriodEnd"]) == ("2026-10-31T23:00:00Z", "2026-11-30T23:00:00Z")

    def test_who_is_charged_is_in_sub_account_and_tags(self, cli: Cli) -> None:
        by_user = {row["x_User"]: row for row in charges(cli)}
        assert by_user["dora"]["SubAccountName"] == "emea"
        assert json.loads(by_user["dora"]["Tags"]) == {"user": "dora", "key": "dora/default"}
        assert by_user["solo"]["SubAccountId"] == ""

    def test_money_without_tokens_is_a_charge_for_requests(self, cli: Cli) -> None:
        (row,) = (row for row in charges(cli) if row["x_Model"] == "dall-e")
        assert (row["SkuMeter"], row["ConsumedUnit"], row["BilledCost"]) == ("Requests", "Requests", "1.000000000")

    async def test_a_call_that_failed_is_one_request(self, cli: Cli, empty: Path) -> None:
        async with Shop(empty / "llmctl.db") as again:
            again.user("fay")
            for _ in range(2):
                await again.call("fay", status=500, error="server_error", cost=0, usage=Usage(), usage_source=None)
        (row,) = (row for row in charges(cli) if row["x_User"] == "fay")
        assert (row["ConsumedQuantity"], row["ConsumedUnit"], row["x_Calls"]) == ("2", "Requests", "2")

    def test_only_usage_has_it_and_only_whole(self, cli: Cli) -> None:
        assert "-o focus is for usage" in cli("calls", "-o", "focus", code=2).err
        assert "leave out --by" in cli("usage", "-o", "focus", "--by", "user", code=2).err
        assert "--color focus is not possible" in cli("usage", "--color", "focus", code=2).err


class TestPriceChanges:
    """Input costs 1 dollar per million tokens in the morning, 3 from noon on."""

    NOON_S = NOW_S - 2 * 3_600

    @pytest.fixture
    async def booked(self, cli: Cli, empty: Path) -> None:
        cli.now_s = NOW_S - 40 * DAY_S
        cli("price", "set", "openai/gpt-5", "--input", "1", "--output", "10")
        cli.now_s = self.NOON_S
        cli("price", "set", "openai/gpt-5", "--input", "3", "--output", "10")
        cli.now_s = NOW_S
        new, old = (row["price_id"] for row in cli.json("price", "history", "openai/gpt-5"))
        usage = Usage(input_tokens=1_000_000)
        async with Shop(empty / "llmctl.db") as shop:
            shop.user("solo")
            await shop.call("solo", at_s=NOW_S - DAY_S, cost=DOLLAR, usage=usage, price_id=old)
            await shop.call("solo", at_s=self.NOON_S - 60, cost=DOLLAR, usage=usage, price_id=old)
            await shop.call("solo", at_s=self.NOON_S + 60, cost=3 * DOLLAR, usage=usage, price_id=new)
            await shop.call("solo", at_s=self.NOON_S + 90, cost=0, status=500, usage=Usage(), usage_source=None)

    @pytest.mark.usefixtures("booked")
    def test_a_day_has_a_row_for_each_price_and_days_before_keep_theirs(self, cli: Cli) -> None:
        rows = sorted(charges(cli), key=lambda row: (row["ChargePeriodStart"], row["BilledCost"]))
        names = ("ChargePeriodStart", "ListUnitPrice", "ListCost", "BilledCost", "ConsumedQuantity")
        assert [tuple(row[name] for name in names) for row in rows] == [
            ("2026-11-22T00:00:00Z", "1.00", "1.000000000", "1.000000000", "1000000"),
            ("2026-11-23T00:00:00Z", "1.00", "1.000000000", "1.000000000", "1000000"),
            ("2026-11-23T00:00:00Z", "3.00", "3.000000000", "3.000000000", "1000000"),
        ]
        assert len({row["SkuPriceId"] for row in rows}) == 2
        assert sum(int(row["x_Calls"]) for row in rows) == cli.json("usage")[0]["calls"]
        assert sum(int(row["x_FailedCalls"]) for row in rows) == 1

    @pytest.mark.usefixtures("booked")
    def test_what_was_repriced_has_the_price_that_it_is_booked_at(self, cli: Cli) -> None:
        cli("usage", "reprice", "--since", "2026-11-22", "--yes")
        cli("price", "set", "openai/gpt-5", "--input", "9", "--output", "10")
        prices = {(row["ListUnitPrice"], row["ListCost"], row["BilledCost"]) for row in charges(cli)}
        assert prices == {("3.00", "3.000000000", "3.000000000"), ("3.00", "6.000000000", "6.000000000")}

    @pytest.mark.usefixtures("booked")
    def test_of_pruned_calls_such_a_day_has_no_unit_price(self, cli: Cli, empty: Path) -> None:
        with closing(sqlite3.connect(empty / "llmctl.db")) as database, database:
            database.execute("DELETE FROM calls WHERE started_at_ms < ?", (self.NOON_S * 1000,))
        rows = [row for row in charges(cli) if row["ChargePeriodStart"] == "2026-11-23T00:00:00Z"]
        assert [(row["ListUnitPrice"], row["SkuPriceId"], row["ListCost"]) for row in rows] == [("", "", "4.000000000")]


async def test_calls_of_a_provider_that_is_no_longer_configured_keep_their_list_price(cli: Cli, empty: Path) -> None:
    cli("price", "sync")
    price = cli.json("price", "history", "openai/gpt-5")[0]["price_id"]
    async with Shop(empty / "llmctl.db") as shop:
        shop.user("solo")
        usage = Usage(input_tokens=1_000_000)
        await shop.call("solo", at_s=NOW_S - DAY_S, cost=1_250_000_000, usage=usage, price_id=price)
    before = [row["ListUnitPrice"] for row in charges(cli)]
    (empty / "config.toml").write_text("[providers.sandbox]\n")
    assert [row["ListUnitPrice"] for row in charges(cli)] == before != [""]
