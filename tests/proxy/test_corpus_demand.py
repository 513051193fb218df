"""Of every recorded call that a provider billed: would we have held at least as much? LLMCTL_CORPUS names a recording.
The whole plan is asked: route, price in force at that time, dearest tier, tools' turns, output maximum."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path

import pytest

from llmctl import config
from llmctl.config.presets import PRESETS, REGION
from llmctl.dialects import table
from llmctl.dialects.endpoint import Match
from llmctl.dialects.request import Request
from llmctl.domain.call import Reading
from llmctl.domain.errors import Refused
from llmctl.proxy.directory import Directory
from llmctl.proxy.lessons import Lessons
from llmctl.proxy.plan import Plan, plan_of
from llmctl.store import catalogue, price_import
from tests.replay import recording
from tests.replay.recording import Exchange
from tests.support.ledgers import Books

CORPUS = os.environ.get("LLMCTL_CORPUS", "")
pytestmark = pytest.mark.skipif(not CORPUS, reason="LLMCTL_CORPUS names no recording")

OTHER_NAMES = {"azure_openai": "azure"}  # of presets
Planned = Callable[[Exchange, Match, Request], Plan]


@pytest.fixture
def planned(tmp_path: Path) -> Planned:
    """What the gateway would hold for a recorded call, by the catalogue's prices of its time."""
    books = Books(tmp_path / "llmctl.db")
    with books.store.write() as tx:
        price_import.replace_source(tx, "catalogue", catalogue.from_genai_prices().rows, now_s=int(time.time()))
    caller = books.caller(books.add_user("alice"))
    (tmp_path / "credential").write_text("secret")

    @cache
    def directory_of(provider: str) -> Directory:
        preset, nowhere = OTHER_NAMES.get(provider, provider), 'base_url = "http://127.0.0.1:9/v1"'
        if preset not in PRESETS:
            lines = f'dialect = "openai"\n{nowhere}'
        else:
            where = 'region = "us-east-1"' if REGION in PRESETS[preset].base_url else ""
            lines = f'preset = "{preset}"\n{where if PRESETS[preset].base_url else nowhere}'
        path = tmp_path / f"{provider}.toml"
        text = (
            f'database = "llmctl.db"\n[providers.{provider}]\n{lines}\nmodels = ["*"]\ncredential_file = "credential"'
        )
        path.write_text(text)
        path.chmod(0o600)
        return Directory(config.load(path), Lessons())

    def plan(exchange: Exchange, match: Match, request: Request) -> Plan:
        directory, dialect = directory_of(exchange.provider), match.endpoint.dialect.name
        return plan_of(caller, request.ask, dialect, directory, config.Bounds(), began_at_s(exchange))

    return plan


def billed_calls() -> Iterator[tuple[Exchange, Match, Request, Reading]]:
    for exchange in recording.read(Path(CORPUS)):
        if not exchange.truth or exchange.status >= 400:
            continue
        try:
            headers = {"anthropic-version"} if exchange.provider == "anthropic" else set()
            match = table.lookup(exchange.method, exchange.path, headers)
            request = match.endpoint.dialect.read_request(match.endpoint.name, exchange.request, match.model)
        except Refused:
            continue  # it would not be sent
        if match.endpoint.kind == "metered":
            yield exchange, match, request, read(exchange, match, request)


def read(exchange: Exchange, match: Match, request: Request) -> Reading:
    dialect, endpoint = match.endpoint.dialect, match.endpoint.name
    if not exchange.stream:
        reading = dialect.read_answer(endpoint, exchange.body)
    else:
        reader = dialect.reader(endpoint, request)
        reader.feed(exchange.body)
        reader.close()
        reading = reader.reading()
    amend = match.endpoint.answer_headers
    return reading if amend is None else amend(reading, exchange.headers)


def began_at_s(exchange: Exchange) -> int:
    headers = {name.lower(): value for name, value in (exchange.record["response_headers"] or {}).items()}
    date = headers.get("date")
    if not date:
        return int(time.time())
    return int(parsedate_to_datetime(date if isinstance(date, str) else date[0]).timestamp())


def test_no_provider_billed_more_than_would_have_been_held(planned: Planned) -> None:
    seen = priced = cut = 0
    above = []
    for exchange, match, request, reading in billed_calls():
        plan, usage = planned(exchange, match, request), reading.usage
        if usage is None:
            continue
        demand, seen = plan.demand, seen + 1
        if usage.input_tokens > demand.input_tokens:
            above.append((exchange.id, "input", usage.input_tokens, demand.input_tokens))
        held_output = demand.output_tokens * demand.output_multiplier
        if demand.output_tokens_injected and usage.output_tokens > held_output:
            cut += 1  # neither client nor catalogue knew a maximum: ours would have been sent, and have cut the answer
            continue
        if usage.output_tokens > held_output:
            above.append((exchange.id, "output", usage.output_tokens, demand.output_tokens))
        if plan.price is not None:
            priced += 1
            cost = reading.reported_cost_nano_usd
            if cost is None:
                cost = plan.price.cost_nano_usd(usage, reading.service_tier, began_at_s(exchange))
            held = demand.cost_nano_usd(demand.output_tokens)
            if cost > held:
                above.append((exchange.id, "cost", cost, held))
    print(f"{seen} calls with usage, {priced} with a price, {cut} that we would have cut, {len(above)} above the hold")
    assert priced > 1_000
    assert cut < 5
    assert above == []
