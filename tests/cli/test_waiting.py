"""What a command does while calls wait for it: little, however many users there are."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from llmctl.cli.context import LOOKS_MAX, App
from llmctl.store import database, user_import
from llmctl.store.callers import settings_version
from llmctl.store.database import WriteLock

from .conftest import Cli
from .shop import NOW_S

# Runs a command, and says which modules were loaded inside a write transaction.
WATCHED = """
import sys
from contextlib import contextmanager
from llmctl.store import database, user_import

original = database.transaction

@contextmanager
def transaction(connection, begin="BEGIN IMMEDIATE"):
    before = set(sys.modules)
    with original(connection, begin) as tx:
        yield tx
    if begin != "BEGIN":
        print("LATE", *sorted(set(sys.modules) - before), file=sys.stderr)

database.transaction = transaction
from llmctl.__main__ import main
main()
"""
CHANGES = [
    "group add emea --timezone Europe/Berlin",
    "group set sales --parent emea",
    "user add bob --group sales",
    "user set alice --email a@example.org",
    "user disable alice",
    "key create alice --name ci",
    "key rotate alice/ci",
    "key revoke alice/ci",
    "limit set --group sales --cost 5 --per month",
    "limit set --org --each user --requests 5 --per minute",
    "model deny gpt-9 --user alice",
    "price set openai/x --input 1 --output 2",
    "price set openai/x --output 3 --tier batch",
    "price remove openai/x --yes",
    "price sync",
    "user import users.csv --no-key",
    "apply wanted.toml --yes",
    "user remove bob --yes",
    "group add old",
    "group remove old --yes",
]


def test_no_command_loads_code_while_calls_wait_for_it(empty: Path, filled: Callable[..., None]) -> None:
    filled("sales/alice")
    (empty / "users.csv").write_text("name\nmany\n")
    (empty / "wanted.toml").write_text('[groups.sales]\n[users.alice]\ngroup = "sales"\n[users.new]\n')
    wrote = 0
    for change in CHANGES:
        done = subprocess.run(
            [sys.executable, "-c", WATCHED, *change.split()],
            capture_output=True,
            text=True,
            env=os.environ | {"PYTHONPATH": str(Path(database.__file__).parents[2])},
        )
        said = [line for line in done.stderr.splitlines() if line.startswith("LATE")]
        assert done.returncode == 0, (change, done.stderr)
        assert set(said) <= {"LATE"}, change
        wrote += len(said)
    assert wrote >= len(CHANGES)


@pytest.mark.parametrize(
    "command",
    [
        "key set {id} --note x",
        "key set alice/default --note x",
        "key set ALICE --note x",
        "key set {prefix} --note x",
        "key rotate gone/default --grace 1h",
        "user move alice --group sales",
        "user disable alice",
    ],
)
def test_who_is_meant_is_found_without_reading_all_users(
    command: str, cli: Cli, empty: Path, filled: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    filled("sales/alice", "gone", "sales/bob")
    key = cli.json("key", "show", "alice")
    cli("key", "revoke", "gone")
    ran: list[str] = []
    original = database.transaction

    @contextmanager
    def transaction(connection: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE") -> Iterator[sqlite3.Connection]:
        with original(connection, begin) as tx:
            connection.set_trace_callback(ran.append if begin != "BEGIN" else None)
            yield tx
            connection.set_trace_callback(None)

    monkeypatch.setattr(database, "transaction", transaction)
    cli(*command.format(**key).split(), code=None)
    assert ran
    with closing(sqlite3.connect(empty / "llmctl.db")) as reader:
        for sql in ran:
            plan = [row[3] for row in reader.execute(f"EXPLAIN QUERY PLAN {sql}")]
            assert not [step for step in plan if re.match(r"SCAN (k|u|s|keys|users|secrets)\b", step)], (sql, plan)


def test_a_price_list_that_is_there_already_waits_for_nobody(cli: Cli, empty: Path) -> None:
    cli("price", "sync")
    with WriteLock(empty / "llmctl.db", timeout_s=1.0):
        again = cli.json("price", "sync")
    assert (again["added"], again["changed"], again["removed"]) == (0, 0, 0)
    assert again["unchanged"] > 1_000


def test_a_long_look_is_taken_anew_when_a_setting_was_changed_since(empty: Path, cli: Cli) -> None:
    """At last under the lock: a change that many others go before is done all the same."""
    app, looks = App(lambda: NOW_S), list[int]()

    def look(tx: sqlite3.Connection) -> int:
        looks.append(settings_version(tx))
        if len(looks) <= LOOKS_MAX:
            cli("group", "add", f"g{len(looks)}")
        return len(looks)

    assert app.change(look, lambda tx, author, seen: (seen, author.at_s)) == (LOOKS_MAX + 1, NOW_S)
    assert looks == list(range(looks[0], looks[0] + LOOKS_MAX + 1))
    app.close()


def test_what_was_changed_since_a_plan_was_shown_stops_it(
    empty: Path, cli: Cli, filled: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    filled("sales/alice")
    (empty / "wanted.toml").write_text('[groups.sales]\n[users.alice]\ngroup = "sales"\n[users.new]\n')
    original = App.change

    def change(self: App, *rest: object) -> object:
        cli("user", "add", "new")
        return original(self, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(App, "change", change)
    failed = cli("apply", "wanted.toml", "--yes", code=1)
    assert failed.err.splitlines()[-1].startswith("error: the organisation was changed meanwhile")
    assert [one["action"] for one in cli.json("audit", "new")] == ["key create", "user add"]


def test_an_import_is_looked_at_again_when_somebody_was_quicker(
    empty: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty / "users.csv").write_text("name\nann\nben\n")
    original, times = user_import.prepare, list[int]()

    def prepare(tx: sqlite3.Connection, users: list[user_import.NewUser], *, with_keys: bool) -> user_import.Import:
        found = original(tx, users, with_keys=with_keys)
        if not times:
            cli("user", "add", "ben")
        times.append(1)
        return found

    monkeypatch.setattr(user_import, "prepare", prepare)
    failed = cli("user", "import", "users.csv", "--key-file", "keys.csv", code=1)
    assert "users.csv:3" in failed.err and "exists already" in failed.err
    assert times == [1]
    assert [one["name"] for one in cli.json("user", "list")] == ["ben"]
    assert not (empty / "keys.csv").exists()
