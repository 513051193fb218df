"""Many users from a CSV file: all or none, with their keys in a file of their own."""

from __future__ import annotations

import csv
import stat
import time
from pathlib import Path

import pytest

from llmctl.domain.errors import Refused
from llmctl.store import callers
from llmctl.store.database import Store

from .conftest import Cli
from .shop import NOW_S


def write(home: Path, *lines: str, encoding: str = "utf-8") -> None:
    (home / "users.csv").write_text("".join(f"{line}\n" for line in lines), encoding=encoding)


def test_users_come_with_groups_and_keys_that_work(cli: Cli, empty: Path) -> None:
    write(empty, "name,group,email,key,expires,note", "alice,sales,a@example.org,laptop,90d,", "bob,,,,,desk 4", "")
    cli("group", "add", "sales")
    done = cli("user", "import", "users.csv", "--key-file", "keys.csv")
    assert done.out == "Imported 2 users, 2 keys in keys.csv (0600).\n"
    file = empty / "keys.csv"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    alice, bob = csv.DictReader(file.read_text().splitlines())
    assert (alice["user"], alice["group"], alice["key_name"]) == ("alice", "sales", "laptop")
    assert alice["expires_at"] == "2027-02-21T14:00:00Z"
    store = Store(empty / "llmctl.db")
    caller = callers.load(store.connection, bob["secret"], now_s=NOW_S)
    assert (caller.user_name, caller.key_public_id) == ("bob", bob["key_id"])
    with pytest.raises(Refused):
        callers.load(store.connection, alice["secret"], now_s=NOW_S + 91 * 86_400)
    store.close()
    assert {entry["action"] for entry in cli.json("audit", "bob")} == {"user add", "key create"}
    assert cli.json("key", "show", "bob")["note"] == "desk 4"


def test_one_bad_line_stops_all_and_every_bad_line_is_named(cli: Cli, empty: Path) -> None:
    cli("group", "add", "sales")
    write(empty, "name,group,email", "alice,sales,", "bad name,,", "Alice,,", "carol,slaes,", "dave,,nowhere")
    failed = cli("user", "import", "users.csv", "--key-file", "keys.csv", code=1)
    *lines, last = failed.err.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [f"users.csv:{n}" for n in (3, 4, 5, 6)]
    assert 'no group "slaes"; did you mean "sales"?' in lines[2]
    assert last == "error: users.csv has 4 problems; nothing was imported: mend them all"
    assert cli.json("user", "list") == []
    assert not (empty / "keys.csv").exists()
    assert cli("user", "import", "users.csv", "--no-key", "-o", "json", code=1).error["code"] == "bad_input"


def test_a_dry_run_changes_nothing_and_needs_no_key_file(cli: Cli, empty: Path) -> None:
    write(empty, "name,group", "alice,sales", "bob,emea")
    dry = cli("user", "import", "users.csv", "--create-groups", "--dry-run")
    assert dry.out == "Would import 2 users, make 2 groups.\n"
    assert (cli.json("user", "list"), cli.json("group", "list"), cli.json("audit")) == ([], [], [])
    assert "nowhere to go" in cli("user", "import", "users.csv", "--create-groups", code=2).err


def test_users_that_exist_are_skipped_if_asked(cli: Cli, empty: Path) -> None:
    cli("user", "add", "alice")
    write(empty, "name", "ALICE", "bob")
    assert "exists already" in cli("user", "import", "users.csv", "--no-key", code=1).err
    done = cli.json("user", "import", "users.csv", "--if-not-exists", "--no-key")
    assert (done["users"], done["skipped"], done["keys"]) == (1, 1, 0)


def test_a_key_file_is_never_overwritten(cli: Cli, empty: Path) -> None:
    write(empty, "name", "alice")
    (empty / "keys.csv").write_text("precious")
    assert "exists already" in cli("user", "import", "users.csv", "--key-file", "keys.csv", code=1).err
    assert (empty / "keys.csv").read_text() == "precious"
    assert cli.json("user", "list") == []


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (("user,group", "alice,"), "users.csv:1: no column name"),
        (("name,phone", "alice,1"), "users.csv:1: unknown column 'phone'"),
        (("name,name", "alice,bob"), "stands there twice"),
        (("name", "alice,sales"), "users.csv:2: 2 cells under 1 columns"),
        (("name", '"alice'), "users.csv:2: unexpected end of data"),
        (("name,expires", "alice,soon"), "users.csv:2: 'soon' is not a time"),
        (("name", "\x1b[31mred"), r"'\x1b[31mred' is not a user name"),
    ],
)
def test_what_is_no_list_of_users_is_refused_with_its_line(
    cli: Cli, empty: Path, lines: tuple[str, ...], says: str
) -> None:
    write(empty, *lines)
    failed = cli("user", "import", "users.csv", "--no-key", code=1)
    assert says in failed.err
    assert failed.err.count("\n") == 1
    assert "\x1b" not in failed.err


def test_files_as_spreadsheets_write_them_are_read(cli: Cli, empty: Path) -> None:
    write(empty, "Name,Group\r", "alice,\r", encoding="utf-8-sig")
    cli("user", "import", "users.csv", "--no-key")
    (empty / "users.csv").write_bytes("name,note\nbob,Büro\n".encode("latin-1"))
    assert "is not UTF-8" in cli("user", "import", "users.csv", "--no-key", code=1).err
    assert "cannot read none.csv" in cli("user", "import", "none.csv", "--no-key", code=1).err


def test_ten_thousand_users_take_seconds(cli: Cli, empty: Path) -> None:
    write(empty, "name,group", *(f"user{n},dept{n % 20}" for n in range(10_000)))
    began_s = time.perf_counter()
    cli("user", "import", "users.csv", "--create-groups", "--key-file", "keys.csv")
    assert time.perf_counter() - began_s < 5
    assert len((empty / "keys.csv").read_text().splitlines()) == 10_001


def test_an_end_that_the_command_line_names_is_its_own_mistake(cli: Cli, empty: Path) -> None:
    write(empty, "name", "alice")
    failed = cli("user", "import", "users.csv", "--key-file", "k", "--expires", "soon", code=2)
    assert failed.err.startswith("error: 'soon' is not a time; ")
