"""What providers say themselves that calls cost, beside what our prices make of their usage: over a recording, which
LLMCTL_CORPUS names. `pytest -s` lists the calls that differ, by cause."""

from __future__ import annotations

import gzip
import json
import os
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from llmctl.dialects.table import DIALECTS
from llmctl.domain.call import Reading
from llmctl.domain.price import pick
from llmctl.domain.usage import NO_USAGE
from llmctl.store import catalogue, database, price_import, prices

CORPUS = os.environ.get("LLMCTL_CORPUS", "")
pytestmark = pytest.mark.skipif(not CORPUS, reason="LLMCTL_CORPUS names no recording")

CATALOGUES = {"openrouter": "openrouter", "xai": "x-ai", "perplexity": "perplexity", "azure_openai": "azure"}
ROUTED_ID = '"id":"gen-'  # some recordings name another host than the one that answered: OpenRouter


@pytest.fixture(scope="module")
def tx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[database.Tx]:
    path = tmp_path_factory.mktemp("prices") / "llmctl.db"
    database.create(path)
    store = database.Store(path)
    with store.write() as tx:
        price_import.replace_source(tx, "catalogue", catalogue.from_genai_prices().rows, now_s=0)
    yield store.connection
    store.close()


def test_our_own_figures_agree_with_the_money_that_providers_state(tx: database.Tx) -> None:
    stated = list(stated_calls())
    differing: dict[str, list[str]] = defaultdict(list)
    for call in stated:
        cause = difference(tx, call)
        if cause:
            differing[cause].append(call["id"])
    for cause, ids in sorted(differing.items()):
        print(f"{len(ids):3} {cause}: {' '.join(ids)}")
    agreeing = len(stated) - sum(map(len, differing.values()))
    print(f"{agreeing} of {len(stated)} agree within 1 %")
    assert len(stated) > 100
    assert agreeing / len(stated) >= 0.95


def stated_calls() -> Iterator[dict[str, Any]]:
    with gzip.open(Path(CORPUS), "rt") as lines:
        for call in map(json.loads, lines):
            if (call.get("truth") or {}).get("provider_cost_usd") is not None:
                yield call


def difference(tx: database.Tx, call: dict[str, Any]) -> str:
    """Why our figure is another one; "" if it is not."""
    raw = call["truth"]["usage_raw"]
    cost = Decimal(str(call["truth"]["provider_cost_usd"]))
    if raw.get("is_byok"):  # then OpenRouter's `cost` is its fee only
        cost += Decimal(str(raw["cost_details"]["upstream_inference_cost"]))
    if raw.get("cost_in_usd_ticks") == 0:
        return "a cost of 0 that is no statement (Azure bills it)"
    reading = read(call)
    usage = reading.usage or NO_USAGE
    if usage == NO_USAGE and "data" in (answer := json.loads(call["response_body"])):
        usage = usage._replace(images=len(answer["data"]))
    elif usage == NO_USAGE:
        return f"nothing but the money is reported ({call['endpoint']})"
    date = call["response_headers"]["date"]
    at_s = int(parsedate_to_datetime(date if isinstance(date, str) else date[0]).timestamp())
    seller, model = seller_and_model(call, reading)
    price = pick(prices.find(tx, seller, seller, model), at_s)
    if price is None:
        return f"no price of {seller}/{model}"
    ours = price.cost_nano_usd(usage, reading.service_tier, at_s)
    if abs(ours - cost * 10**9) <= max(cost * 10**7, 1):
        return ""
    return f"{seller}/{model} {reading.service_tier}".strip() + f": {ours / 10**9:.9f} for {cost:.9f}"


def seller_and_model(call: dict[str, Any], reading: Reading) -> tuple[str, str]:
    if call["provider"] not in CATALOGUES and ROUTED_ID in call["response_body"]:
        return "openrouter", reading.response_model
    return CATALOGUES[call["provider"]], call["truth"]["request_model"] or reading.response_model


def read(call: dict[str, Any]) -> Reading:
    openai, body = DIALECTS["openai"], call["response_body"].encode()
    if not call["stream"]:
        return openai.read_answer(call["endpoint"], body)
    reader = openai.reader(call["endpoint"], openai.read_request(call["endpoint"], b'{"model":"m"}'))
    reader.feed(body)
    reader.close()
    return reader.reading()
