"""backup, restore, migrate: copies that can be trusted, and nothing half done."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from llmctl.store.database import migrations, schema_version
from tests.support.daemon import Daemon
from tests.support.faulty import Faulty

from .conftest import Cli

Fill = Callable[..., None]


def test_a_backup_is_one_private_sound_file(cli: Cli, filled: Fill, tmp_path: Path) -> None:
    filled("sales/alice")
    copy = tmp_path / "copy.db"
    assert "checked" in cli("backup", str(copy)).out
    assert copy.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in tmp_path.glob("*copy.db*")] == ["copy.db"]
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT name FROM users").fetchall() == [("alice",)]


def test_a_backup_replaces_nothing(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "copy.db").write_text("mine")
    assert "exists already" in cli("backup", str(tmp_path / "copy.db"), code=1).err
    assert (tmp_path / "copy.db").read_text() == "mine"
    assert "cannot write beside" in cli("backup", str(tmp_path / "no" / "copy.db"), code=1).err


def test_restoring_brings_the_old_state_back_and_keeps_the_new(cli: Cli, filled: Fill, tmp_path: Path) -> None:
    filled("sales/alice")
    copy = str(tmp_path / "copy.db")
    cli("backup", copy)
    cli("user", "add", "bob", "-q")
    assert "--yes" in cli("restore", copy, code=1).err
    assert "can be restored" in cli("restore", copy, "--dry-run").out
    kept = cli.json("restore", copy, "--yes")["kept"]
    assert [user["name"] for user in cli.json("user", "list")] == ["alice"]
    assert cli.json("audit", "--action", "restore")[0]["after"]["from"].endswith("copy.db")
    cli("restore", kept, "--yes")
    assert [user["name"] for user in cli.json("user", "list")] == ["alice", "bob"]


def test_what_is_no_sound_copy_is_not_restored(cli: Cli, filled: Fill, tmp_path: Path) -> None:
    filled("sales/alice")
    copy = tmp_path / "copy.db"
    cli("backup", str(copy))
    whole = copy.read_bytes()
    bad = {
        "text.db": b"no database at all, but long enough to look like one",
        "half.db": whole[: len(whole) // 2],
        "holes.db": whole[:8_192] + bytes(8_192) + whole[16_384:],
    }
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
        failed = cli("restore", str(tmp_path / name), "--yes", code=1).err
        what = "is no backup of llmctl" if name == "text.db" else "is damaged"
        assert failed.startswith(f"error: {tmp_path / name} {what}")
    failed = cli("restore", "config.toml", "--yes", code=1).err
    assert failed == "error: config.toml is no backup of llmctl; name another file that llmctl backup made\n"
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE t (a)")
    assert "not an llmctl database" in cli("restore", str(tmp_path / "other.db"), "--yes", code=1).err
    assert "no file" in cli("restore", str(tmp_path / "none.db"), "--yes", code=1).err
    assert [user["name"] for user in cli.json("user", "list")] == ["alice"]


def old_database(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(f"{migrations()[0][1]}\nPRAGMA user_version = 1;")
        connection.execute("INSERT INTO users (name, created_at) VALUES ('old', 1)")


def test_an_older_database_is_brought_up_to_date_and_kept(cli: Cli, empty: Path) -> None:
    path = empty / "llmctl.db"
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    old_database(path)
    assert "llmctl migrate" in cli("user", "list", code=1).err
    assert f"to schema {schema_version()}" in cli("migrate", "--dry-run").out
    done = cli.json("migrate")
    assert (done["before"], done["schema"]) == (1, schema_version())
    assert [user["name"] for user in cli.json("user", "list")] == ["old"]
    with closing(sqlite3.connect(done["kept"])) as kept:
        assert kept.execute("PRAGMA user_version").fetchone() == (1,)
    assert "unchanged" in cli("migrate").out


def test_under_a_running_gateway_a_backup_is_taken_and_nothing_is_replaced(tmp_path: Path) -> None:
    with Faulty() as faulty, Daemon(tmp_path, faulty.providers(tmp_path)) as daemon:
        key = daemon.add_user("alice")
        body = {"model": "fine/m", "messages": [{"role": "user", "content": "Hi"}]}
        daemon.here("price", "set", "*", "--input", "1", "--output", "10")
        answers: list[int] = []
        calling = threading.Thread(
            target=lambda: answers.extend(daemon.send("/v1/chat/completions", body, key=key).status for _ in range(100))
        )
        calling.start()
        for number in range(3):
            daemon.here("backup", str(tmp_path / f"copy-{number}.db"))
        calling.join()
        assert answers == [200] * 100
        refused = daemon.llmctl("restore", str(tmp_path / "copy-0.db"), "--yes", check=False)
        assert (refused.returncode, "stop it first" in refused.stderr) == (1, True)
        would = daemon.llmctl("restore", str(tmp_path / "copy-0.db"), "--dry-run").stdout
        assert f"it can be restored once the gateway is stopped (process {daemon.process.pid})" in would
    with closing(sqlite3.connect(tmp_path / "copy-2.db")) as copy:
        (calls,) = copy.execute("SELECT count(*) FROM calls").fetchone()
        assert 0 <= calls <= 100


@pytest.mark.parametrize("command", ["migrate", "backup x.db"])
def test_without_a_database_there_is_a_hint(cli: Cli, empty: Path, command: str) -> None:
    for file in empty.glob("llmctl.db*"):
        file.unlink()
    assert "llmctl init" in cli(*command.split(), code=1).err


def test_who_was_shut_out_since_the_backup_stays_out(cli: Cli, filled: Fill, tmp_path: Path) -> None:
    filled("sales/alice", "sales/bob", "sales/carol", "lab/dave", "erin")
    copy = str(tmp_path / "copy.db")
    cli("backup", copy)
    cli("key", "revoke", "alice")
    newer = cli.secret("key", "rotate", "bob", "-q")
    cli("user", "disable", "carol")
    cli("group", "disable", "lab")
    cli("user", "remove", "erin", "--yes")
    done = cli("restore", copy, "--yes").out
    assert "Still revoked: alice/default, erin/default" in done
    assert "Still rotated, with their newer secrets: bob/default" in done
    assert "Still disabled: user carol, user erin, group lab" in done
    assert [key["user"] for key in cli.json("key", "list")] == ["bob", "carol", "dave"]
    assert cli.json("key", "show", newer[:16])["user"] == "bob"
    assert [secret["state"] for secret in cli.json("key", "show", "bob")["secrets"]] == ["current", "dead"]
    assert [user["disabled"] for user in cli.json("user", "list")] == [False, False, True, False, True]
    assert cli.json("audit", "--action", "restore")[0]["after"]["revoked"] == ["alice/default", "erin/default"]


def test_a_key_that_was_given_an_end_since_the_backup_keeps_it(cli: Cli, filled: Fill, tmp_path: Path) -> None:
    filled("alice", "bob", "carol")
    cli("key", "set", "bob", "--expires", "1d")
    copy = str(tmp_path / "copy.db")
    cli("backup", copy)
    cli("key", "set", "alice", "--expires", "15m")
    cli("key", "set", "bob", "--expires", "30d")
    ends = cli.json("key", "show", "alice")["expires_at"]
    done = cli("restore", copy, "--yes").out
    assert "Still expiring when set since: alice/default\n" in done
    assert cli.json("key", "show", "alice")["expires_at"] == ends
    cli.now_s += 3_600
    assert [key["state"] for key in cli.json("key", "list")] == ["expired", "active", "active"]


def test_who_was_bound_to_networks_since_the_backup_stays_so(cli: Cli, filled: Fill, tmp_path: Path) -> None:
    filled("sales/alice", "bob", "carol", "dave")
    cli("key", "set", "bob", "--allow-from", "10.0.0.0/8")
    cli("key", "set", "carol", "--allow-from", "10.1.0.0/16")
    cli("key", "set", "dave", "--allow-from", "10.2.0.0/16")
    copy = str(tmp_path / "copy.db")
    cli("backup", copy)
    cli("key", "set", "alice", "--allow-from", "192.168.7.0/24")
    cli("group", "set", "sales", "--allow-from", "192.168.0.0/16")
    cli("key", "set", "bob", "--allow-from", "10.9.0.0/16")
    cli("key", "set", "carol", "--no-allow-from")
    done = cli("restore", copy, "--yes").out
    assert "Still bound to the networks set since: key alice/default, key bob/default, group sales\n" in done
    keys = {key["user"]: key["allow_from"] for key in cli.json("key", "list")}
    assert keys == {
        "alice": "192.168.7.0/24",
        "bob": "10.9.0.0/16",
        "carol": "10.1.0.0/16",  # nobody gets in whom the backup keeps out
        "dave": "10.2.0.0/16",
    }
    assert cli.json("group", "show", "sales")["allow_from"] == "192.168.0.0/16"


def test_who_was_moved_to_where_nobody_gets_in_stays_out_too(cli: Cli, filled: Fill, tmp_path: Path) -> None:
    filled("sales/alice", "sales/bob", "emea/carol", "dave", "shut/erin")
    cli("group", "disable", "shut")
    copy = str(tmp_path / "copy.db")
    cli("backup", copy)
    cli("group", "add", "gone")
    cli("user", "move", "alice", "--group", "gone")
    cli("user", "move", "dave", "--group", "gone")
    cli("user", "move", "erin", "--group", "gone")
    cli("group", "set", "emea", "--parent", "gone")
    cli("group", "disable", "gone")
    done = cli("restore", copy, "--yes").out
    assert "Still disabled: user alice, user carol, user dave\n" in done
    assert [user["name"] for user in cli.json("user", "list") if user["disabled"]] == ["alice", "carol", "dave"]


def test_a_copy_of_another_database_takes_nothing_over(cli: Cli, filled: Fill, empty: Path, tmp_path: Path) -> None:
    filled("sales/alice")
    cli("backup", str(tmp_path / "copy.db"))
    (empty / "llmctl.db").unlink()
    cli("init", "--if-not-exists")
    cli.now_s += 60
    filled("sales/zoe")
    cli("user", "disable", "zoe")
    assert cli.json("restore", str(tmp_path / "copy.db"), "--yes")["carried_over"] == {}


def test_a_damaged_database_is_replaced_too(cli: Cli, filled: Fill, empty: Path, tmp_path: Path) -> None:
    filled("sales/alice")
    cli("backup", str(tmp_path / "copy.db"))
    (empty / "llmctl.db").write_bytes(b"no database any more, but still in its place" * 400)
    assert "could not be read" in cli("restore", str(tmp_path / "copy.db"), "--yes").out
    assert [user["name"] for user in cli.json("user", "list")] == ["alice"]
