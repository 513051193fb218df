"""doctor: each thing that can be broken is broken here, seen, and mended where that is possible."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from llmctl.cli import checkup
from llmctl.store import contents, fold
from llmctl.store.booking import Held
from llmctl.store.database import Store
from llmctl.store.ledger import Ledger
from tests.support.daemon import AS_ANYBODY, LLMCTL
from tests.support.faulty import Faulty
from tests.support.ledgers import Books, opening
from tests.support.ledgers import closing as ended

from .conftest import NOW_S, Cli


@pytest.fixture
def shop(cli: Cli, empty: Path) -> Path:
    """Some calls under limits."""
    secret = cli.secret("user", "add", "alice", "-q")
    cli("limit", "set", "--user", "alice", "--cost", "10", "--per", "month")
    cli("limit", "set", "--org", "--tokens", "1M", "--per", "day")
    cli("limit", "set", "--org", "--each", "user", "--cost", "10", "--per", "week")
    cli("limit", "set", "--org", "--each", "end-user", "--cost", "10", "--per", "day")
    cli("limit", "set", "--org", "--requests", "1000", "--per", "minute")
    path = empty / "llmctl.db"
    asyncio.run(call(path, secret, 20, NOW_S - 7200))
    asyncio.run(call(path, secret, 20, NOW_S))
    with closing(Store(path)) as store:
        fold.everything(store, default_zone="UTC", now_s=NOW_S)
    return path


async def call(path: Path, secret: str, count: int, now_s: int) -> None:
    books = Books.__new__(Books)
    books.path, books.store = path, Store(path)
    ledger = Ledger(path, default_zone="UTC", share_percent=25, clock_s=lambda: now_s)
    await ledger.start()
    for _ in range(count):
        wanted = opening(ledger, books.caller(secret), at_ms=now_s * 1000, end_user="e1")
        assert isinstance(await ledger.hold(wanted), Held)
        ledger.settle(ended(wanted.call_id))
    await ledger.close()
    books.store.close()


def states(cli: Cli, *args: str, code: int) -> dict[str, str]:
    rows: list[dict[str, Any]] = cli("doctor", "--offline", *args, "-o", "json", code=code).json
    return {row["check"]: row["state"] for row in rows}


def test_all_is_well(cli: Cli, shop: Path) -> None:
    assert set(states(cli, code=0).values()) == {"ok"}


@pytest.mark.parametrize(
    ("sql", "check"),
    [
        ("UPDATE rollups SET cost_nano = cost_nano + 1", "roll-ups"),
        ("DELETE FROM rollups", "roll-ups"),
        ("UPDATE rollups SET bucket = bucket + 1", "roll-ups"),
        ("UPDATE calls SET output_tokens = output_tokens + 5 WHERE id = (SELECT max(id) FROM calls)", "roll-ups"),
        ("UPDATE balances SET settled = settled - 1 WHERE limit_id = 1", "balances"),
        ("UPDATE balances SET held = 7 WHERE limit_id = 2", "balances"),
        ("UPDATE balances SET settled = settled + 1 WHERE limit_id = 3 AND member_id <> 0", "balances"),
        ("UPDATE balances SET settled = 0 WHERE limit_id = 4", "balances"),
        ("UPDATE balances SET held = held - 1 WHERE limit_id = 5", "balances"),
        ("UPDATE summaries SET cost_nano = cost_nano + 1", "summaries"),
        ("DELETE FROM summaries WHERE span_id = (SELECT id FROM spans WHERE kind = 'day')", "summaries"),
    ],
)
def test_books_that_disagree_are_seen_and_mended(cli: Cli, shop: Path, sql: str, check: str) -> None:
    with closing(sqlite3.connect(shop)) as connection, connection:
        connection.execute(sql)
    assert states(cli, code=1)[check] == "failed"
    assert "--repair" in cli("doctor", "--offline", code=1).out
    assert set(states(cli, "--repair", code=0).values()) == {"ok"}
    (entry,) = cli.json("audit", "--action", "doctor repair")
    assert entry["subject"] == "books"
    usage = cli.json("usage")
    with closing(sqlite3.connect(shop)) as connection:
        (tokens,) = connection.execute("SELECT sum(output_tokens) FROM calls").fetchone()
    assert sum(row["output_tokens"] for row in usage) == tokens


def test_the_size_of_contents_is_told_and_what_helps_where_room_is_short(
    cli: Cli, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents.add(contents.directory_of(shop), [{"request": "x" * 5_000}], NOW_S)
    assert states(cli, code=0)["contents"] == "ok"
    monkeypatch.setattr(checkup, "FREE_BYTES_MIN", 1 << 60)
    (row,) = (row for row in cli.json("doctor", "--offline") if row["check"] == "contents")
    assert (row["state"], row["text"]) == ("warning", "5.0 kB of prompts and answers, 1 day")
    assert "keep_days" in row["mend"] and "llmctl.db.contents" in row["mend"]


def test_what_was_pruned_is_not_missed(cli: Cli, shop: Path) -> None:
    cli.now_s += 86_400 * 100
    cli("prune", "--keep", "90d", "--yes")
    assert states(cli, code=0)["roll-ups"] == "ok"


def test_files_that_others_may_read_and_calls_without_an_end_or_a_price_are_told(cli: Cli, shop: Path) -> None:
    shop.chmod(0o644)
    with closing(sqlite3.connect(shop)) as connection, connection:
        connection.execute("UPDATE calls SET state = 'open', owner = 3 WHERE id = (SELECT max(id) FROM calls)")
        connection.execute("UPDATE rollups SET unpriced_calls = 2")
    found = states(cli, code=1)
    assert {name for name, state in found.items() if state == "warning"} == {"permissions", "open calls", "prices"}


@pytest.mark.parametrize("what", ["llmctl.db", "llmctl.db-wal", "."])
def test_what_this_user_may_not_write_is_told(cli: Cli, shop: Path, empty: Path, what: str) -> None:
    (empty / what).touch()
    (empty / what).chmod(0o500 if what == "." else 0o400)
    command = [*AS_ANYBODY, str(LLMCTL), "doctor", "--offline", "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True)
    (empty / what).chmod(0o700)
    assert done.returncode == 1, done.stderr
    failed = next(row for row in json.loads(done.stdout) if row["check"] == "writing")
    assert failed["state"] == "failed"
    named = str(empty) if what == "." else what
    assert failed["text"] == f"{named} may not be written by this user"
    assert failed["mend"].startswith("check its owner and mode")


@pytest.mark.parametrize("args", [[], ["--repair"]])
def test_a_damaged_database_is_told(cli: Cli, shop: Path, args: list[str]) -> None:
    whole = shop.read_bytes()
    shop.write_bytes(whole[: len(whole) // 2])
    rows = {row["check"]: row for row in cli("doctor", "--offline", *args, "-o", "json", code=1).json}
    assert rows["database"]["state"] == "failed"
    assert rows["database"]["text"] == "the database is broken: database disk image is malformed"
    assert rows["database"]["mend"] == "restore a backup"
    assert rows["writing"]["state"] == rows["versions"]["state"] == "ok"
    assert not rows.keys() & {"roll-ups", "balances", "open calls"}


def test_providers_are_asked(cli: Cli, shop: Path, empty: Path) -> None:
    config = empty / "config.toml"
    gone = '[providers.gone]\ndialect = "openai"\nbase_url = "http://127.0.0.1:9/v1"\ncredential_file = "credential"\n'
    with Faulty() as faulty:
        there = [
            text for text in faulty.providers(empty).split("[providers.") if text.startswith(("fine]", "forbidden]"))
        ]
        (empty / "credential").chmod(0o600)
        config.write_text(config.read_text() + gone + "".join(f"[providers.{text}" for text in there))
        rows = cli("doctor", "-o", "json", code=1).json
    found = {row["check"]: row for row in rows}
    assert found["provider gone"]["state"] == "failed"
    assert "cannot be reached" in found["provider gone"]["text"]
    assert found["provider fine"]["state"] == "ok"
    assert found["provider forbidden"]["state"] == "failed"
    assert "refuses our credential" in found["provider forbidden"]["text"]


def test_what_is_on_a_name_that_became_an_alias_is_told(cli: Cli, shop: Path) -> None:
    config = shop.with_name("config.toml")
    with_alias = config.read_text()
    config.write_text(with_alias.replace("fast =", "# fast ="))
    cli("model", "deny", "fast", "--user", "alice")
    cli("limit", "set", "--org", "--model", "fast", "--cost", "5", "--per", "day")
    config.write_text(with_alias)
    told = [row for row in cli.json("doctor", "--offline") if row["check"] == "aliases"]
    assert [row["text"].split(" does not bind ")[0] for row in told] == [
        "deny fast on user alice",
        "limit l6 on organisation",
    ]
    for row in told:
        cli(*row["mend"].removeprefix("llmctl ").partition(",")[0].split(), "--yes")
    assert not any(row["check"] == "aliases" for row in cli.json("doctor", "--offline"))


def test_what_is_not_well_stands_out_with_its_mend_and_counts_when_strict(cli: Cli, shop: Path) -> None:
    assert cli("doctor", "--offline", "--strict").out.splitlines()[-1] == "All is well."
    shop.chmod(0o644)
    lines = cli("doctor", "--offline").out.splitlines()
    assert "warn  permissions    others may read llmctl.db" in lines
    assert f"{'':21}fix: chmod 600 llmctl.db" in lines
    assert lines[-1] == "1 warning"
    cli("doctor", "--offline", "--strict", code=1)
