"""The life of a key after its making: changed, rotated, found again when it leaked."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from llmctl.store import keys, sightings
from llmctl.store.database import Store
from llmctl.store.sightings import Sighting

from .conftest import Cli
from .shop import DOLLAR, NOW_S, Shop

Fill = Callable[..., None]


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda text: monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_a_key_gets_another_name_end_and_note(cli: Cli, filled: Fill) -> None:
    filled("alice")
    changed = cli.json("key", "set", "alice", "--name", "laptop", "--expires", "90d", "--note", "Alice's, at home")
    assert (changed["name"], changed["expires_at"], changed["changed"]) == ("laptop", "2027-02-21T14:00:00Z", True)
    assert "Alice's, at home" in cli("key", "show", "alice/laptop").out
    back = cli.json("key", "set", "alice", "--expires", "never", "--no-note")
    assert (back["name"], back["expires_at"], back["note"]) == ("laptop", None, None)
    assert cli.json("key", "set", "alice", "--name", "laptop")["changed"] is False
    (newest, *_) = cli.json("audit", "key set")
    assert newest["before"]["expires_at"] == "2027-02-21T14:00:00Z"


def test_a_key_does_not_take_a_name_that_another_one_has(cli: Cli, filled: Fill) -> None:
    filled("alice")
    cli("key", "create", "alice", "--name", "ci")
    assert "exists already" in cli("key", "set", "alice/ci", "--name", "DEFAULT", code=1).err
    assert "no usable note" in cli("key", "set", "alice/ci", "--note", "a\nb", code=2).err


def test_a_key_that_is_revoked_is_said_to_be_revoked(cli: Cli, filled: Fill) -> None:
    filled("bob")
    key = cli.json("key", "create", "bob", "--name", "laptop")["key"]
    cli("key", "revoke", "bob/laptop")
    told = f"error: key bob/laptop ({key['id']}) is revoked, for good; llmctl key create bob --name laptop\n"
    for reference in ("bob/laptop", key["id"], key["prefix"]):
        assert cli("key", "rotate", reference, code=1).err == told
        assert cli("key", "set", reference, "--note", "x", code=1).err == told
    again = cli.json("key", "create", "bob", "--name", "laptop")["key"]
    assert cli.json("key", "rotate", "bob/laptop")["key"]["id"] == again["id"]
    cli("key", "revoke", "bob/laptop")
    cli("key", "revoke", "bob/default")
    assert cli("key", "rotate", "bob", code=1).err == "error: bob has no active key; llmctl key create bob\n"
    cli("user", "remove", "bob", "--yes")
    assert cli("key", "rotate", key["id"], code=1).err.endswith("is revoked, for good; its user is gone too\n")


def test_the_only_key_of_a_user_is_revoked_again_without_harm(cli: Cli, filled: Fill) -> None:
    filled("bob")
    cli("key", "revoke", "bob")
    assert cli("key", "revoke", "bob").out == "bob/default is revoked already: unchanged.\n"
    assert cli.json("key", "show", "bob")["state"] == "revoked"
    assert "is revoked, for good" in cli("key", "rotate", "bob", code=1).err
    cli("key", "create", "bob", "--name", "new")
    assert cli.json("key", "show", "bob")["name"] == "new"


def test_a_grace_is_extended_and_shortened_but_the_dead_stay_dead(cli: Cli, filled: Fill) -> None:
    filled("alice")
    assert "no old secret that works" in cli("key", "set", "alice", "--grace", "1d", code=1).err
    cli("key", "rotate", "alice", "--grace", "1d")
    assert cli.json("key", "set", "alice", "--grace", "7d")["old_secret_until"] == "2026-11-30T14:00:00Z"
    assert cli.json("key", "set", "alice", "--grace", "1h")["old_secret_until"] == "2026-11-23T15:00:00Z"
    cli.now_s += 3601
    assert cli.json("key", "show", "alice")["old_secret_until"] is None
    assert "no old secret that works" in cli("key", "set", "alice", "--grace", "1d", code=1).err


def test_a_leaked_secret_is_found_by_how_it_begins(cli: Cli) -> None:
    secret = cli.secret("user", "add", "alice")
    assert cli.json("key", "show", secret[:16])["user"] == "alice"
    cli("key", "rotate", "alice")
    assert "replaced: dead since 23 Nov 14:00 UTC" in cli("key", "show", secret[:16]).out
    assert "too short" in cli("key", "show", secret[:11], code=1).err
    assert "no key has a secret that begins" in cli("key", "show", "sk-llmctl-000000", code=1).err
    refused = cli("key", "show", secret, code=1).err
    assert "looks like a secret" in refused
    assert secret[20:] not in refused


def test_every_key_command_reads_the_secret_from_stdin(cli: Cli, stdin: Callable[[str], None]) -> None:
    secret = cli.secret("user", "add", "alice")
    stdin(f"export OPENAI_API_KEY={secret}  # oops\n")
    shown = cli.json("key", "show", "-")
    assert (shown["user"], shown["found"]["state"]) == ("alice", "current")
    stdin(secret)
    assert cli("key", "rotate", "-").out.startswith("sk-llmctl-")
    stdin(secret)
    assert cli.json("key", "show", "-")["found"]["state"] == "dead"
    stdin(secret)
    assert cli.json("key", "revoke", "-")["user"] == "alice"
    stdin("")
    assert "no secret on stdin" in cli("key", "show", "-", code=2).err


def test_who_is_asked_for_a_secret_keeps_nobody_waiting(cli: Cli, empty: Path) -> None:
    secret = cli.secret("user", "add", "alice")
    command = [sys.executable, "-m", "llmctl", "key", "revoke", "-"]
    with subprocess.Popen(command, cwd=empty, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        time.sleep(1)  # it has started, and waits
        began_s = time.monotonic()
        cli("user", "add", "bob")
        assert time.monotonic() - began_s < 5
        out, _ = process.communicate(f"{secret}\n", timeout=20)
    assert out.startswith("Revoked alice/default")


def see(database: Path, user: str, *places: tuple[str, str, int, int]) -> None:
    store = Store(database)
    with store.write() as tx:
        key = keys.get(tx, user)
        newest = keys.secrets_of(tx, key)[0].hash
        sightings.add(tx, [Sighting(newest, address, client, at, at, calls) for address, client, at, calls in places])
    store.close()


def test_a_rotation_tells_who_still_uses_the_old_secret(cli: Cli, filled: Fill, empty: Path) -> None:
    filled("alice")
    see(empty / "llmctl.db", "alice", ("10.0.4.17", "openai-python/3", NOW_S - 120, 200), ("10.0.4.80", "claude", 9, 9))
    see(empty / "llmctl.db", "alice", ("10.0.4.17", "openai-python/3", NOW_S - 60, 12))
    rotated = cli("key", "rotate", "alice", "--grace", "24h").err
    assert "Used until now by:\n" in rotated
    assert "  10.0.4.17  openai-python/3  212 calls  1 min ago\n" in rotated
    see(empty / "llmctl.db", "alice", ("10.0.4.99", "curl/8", NOW_S, 1))
    seen = {place["address"]: place for place in cli.json("key", "show", "alice")["seen"]}
    assert {address: place["secret"] for address, place in seen.items()} == {
        "10.0.4.17": "old",
        "10.0.4.80": "old",
        "10.0.4.99": "current",
    }
    assert (seen["10.0.4.17"]["calls"], seen["10.0.4.17"]["last_at"]) == (212, "2026-11-23T13:59:00Z")


def test_of_several_old_secrets_each_is_told_apart(cli: Cli, filled: Fill, empty: Path) -> None:
    filled("alice")
    see(empty / "llmctl.db", "alice", ("10.0.0.1", "curl/8", NOW_S - 60, 1))
    cli("key", "rotate", "alice", "--grace", "24h")
    see(empty / "llmctl.db", "alice", ("10.0.0.2", "curl/8", NOW_S - 60, 2))
    rotated = cli("key", "rotate", "alice", "--grace", "48h").err
    second, first = sorted(
        (one for one in cli.json("key", "show", "alice")["secrets"] if one["state"] == "old"),
        key=lambda one: one["ends_at"],
        reverse=True,
    )
    assert f"  {first['prefix']}...  10.0.0.1  curl/8   1 call  1 min ago\n" in rotated
    assert f"  {second['prefix']}...  10.0.0.2  curl/8  2 calls  1 min ago\n" in rotated
    shown = cli("key", "show", "alice").out
    assert f"old     {first['prefix']}...  10.0.0.1" in shown
    assert f"Old secrets         {second['prefix']}... works until 25 Nov 14:00 UTC\n" in shown
    assert f"                    {first['prefix']}... works until 24 Nov 14:00 UTC\n" in shown
    said = cli("key", "set", "alice", "--grace", "7d").out
    both = sorted(f"{one['prefix']}..." for one in (first, second))
    assert (
        sorted(said.partition("Its 2 old secrets ")[2].partition(" work until 30 Nov 14:00 UTC.")[0].split(", "))
        == both
    )


async def test_a_key_shows_what_it_did_since(cli: Cli, empty: Path) -> None:
    async with Shop(empty / "llmctl.db") as shop:
        shop.user("alice")
        for age_s in (60, 3 * 86_400, 20 * 86_400):
            await shop.call("alice", at_s=shop.now_s - age_s, cost=DOLLAR)
    assert "1 call of gpt-5, $1.00" in cli("key", "show", "alice", "--since", "24h").out
    shown = cli.json("key", "show", "alice")
    assert shown["calls"] == 2
    assert shown["models"] == [{"model": "gpt-5", "calls": 2, "cost_usd": "2.000000000", "unpriced_calls": 0}]
    assert cli.json("key", "show", "alice", "--since", "2026-11-01")["cost_usd"] == "3.000000000"


def test_making_a_key_again_changes_nothing_and_tells_what_differs(cli: Cli, filled: Fill) -> None:
    filled("alice")
    cli("key", "create", "alice", "--name", "ci", "--expires", "2026-12-31")
    again = cli("key", "create", "alice", "--name", "CI", "--expires", "2027-01-31", "--if-not-exists")
    assert again.out == ""
    assert "! alice/ci expires 2026-12-31T00:00:00Z, not 2027-01-31T00:00:00Z: it stays so\n" in again.err
    assert "exists already: unchanged, no new secret.\n" in again.err
    assert cli.json("key", "create", "alice", "--name", "ci", "--if-not-exists")["key"]["secret"] is None
    assert cli.secret("key", "create", "alice", "--name", "new", "--if-not-exists").startswith("sk-llmctl-")


def test_users_and_keys_that_nobody_uses_are_found(cli: Cli, filled: Fill, empty: Path) -> None:
    filled("alice", "bob")
    see(
        empty / "llmctl.db",
        "alice",
        ("10.0.4.17", "curl/8", NOW_S - 7_300, 3),
        ("10.0.4.18", "curl/8", NOW_S - 9_000, 1),
    )
    assert [user["last_used_at"] for user in cli.json("user", "list")] == ["2026-11-23T11:58:20Z", None]
    assert [line.split()[-1] for line in cli("user", "list").out.splitlines()[1:]] == ["ago", "never"]
    assert "2 h ago" in cli("key", "list").out
    assert cli.json("key", "list", "--unused", "1d") == []  # made just now
    cli.now_s += 86_400 * 2
    see(empty / "llmctl.db", "alice", ("10.0.4.17", "curl/8", cli.now_s - 60, 1))
    assert [key["user"] for key in cli.json("key", "list", "--unused", "1d")] == ["bob"]
    assert [user["name"] for user in cli.json("user", "list", "--unused", "1d", "--sort", "last_used_at")] == ["bob"]
    assert cli("user", "list", "--unused", "30d").out == "No users.\n"
