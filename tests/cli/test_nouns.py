"""Groups, users and keys through the commands."""

from __future__ import annotations

import csv
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Cli

SECRET = re.compile(r"sk-llmctl-[0-9A-Za-z]{49}")
Fill = Callable[..., None]


def test_a_new_user_gets_a_key_that_is_alone_on_stdout_with_the_prose_on_stderr(cli: Cli) -> None:
    cli("group", "add", "sales")
    added = cli("user", "add", "alice", "--group", "sales")
    assert SECRET.fullmatch(added.out.rstrip("\n"))
    assert added.err.startswith("Added alice to sales. Key alice/default (k_")
    assert ", shown once:" in added.err
    assert "OPENAI_BASE_URL=http://127.0.0.1:4000/v1" in added.err


def test_quiet_drops_the_prose_and_keeps_the_secret(cli: Cli) -> None:
    added = cli("-q", "user", "add", "alice")
    assert SECRET.fullmatch(added.out.rstrip("\n"))
    assert added.err == ""


def test_a_new_user_as_json_has_the_documented_shape(cli: Cli) -> None:
    cli("group", "add", "sales")
    added = cli.json("user", "add", "alice", "--group", "sales", "--expires", "90d")
    assert list(added) == ["user", "group", "key"]
    assert (added["user"], added["group"]) == ("alice", "sales")
    assert list(added["key"]) == ["id", "name", "prefix", "secret", "expires_at"]
    assert added["key"]["secret"].startswith(added["key"]["prefix"])
    assert added["key"]["expires_at"] == "2027-02-21T14:00:00Z"


def test_a_user_without_a_key_prints_no_secret(cli: Cli) -> None:
    assert "sk-" not in cli("user", "add", "alice", "--no-key").out
    assert cli.json("key", "list") == []
    assert cli.json("user", "add", "bob", "--no-key")["key"] is None


def test_adding_again_if_not_exists_prints_no_secret_and_warns_of_differences(cli: Cli) -> None:
    cli("user", "add", "alice")
    cli("group", "add", "sales")
    again = cli("user", "add", "alice", "--group", "sales", "--if-not-exists")
    assert again.out == ""
    assert "! alice has group none, not sales: it stays so" in again.err
    assert "unchanged" in cli("group", "add", "sales", "--if-not-exists").out


def test_adding_again_without_the_flag_fails_and_says_what_there_is(cli: Cli) -> None:
    cli("user", "add", "alice")
    again = cli("user", "add", "Alice", code=1)
    assert again.err == 'error: user "Alice" exists already; llmctl user show Alice\n'


def test_the_key_can_go_to_a_file_of_its_own_that_is_never_overwritten(cli: Cli, empty: Path) -> None:
    added = cli("user", "add", "alice", "--key-file", "alice.key")
    assert added.out == ""
    file = empty / "alice.key"
    assert SECRET.fullmatch(file.read_text().strip())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert cli("user", "add", "bob", "--key-file", "alice.key", code=1).err.startswith("error: alice.key exists")
    assert [user["name"] for user in cli.json("user", "list")] == ["alice"]


def test_a_failed_command_leaves_no_key_file(cli: Cli, empty: Path) -> None:
    cli("user", "add", "alice", "--group", "nowhere", "--key-file", "alice.key", code=1)
    assert not (empty / "alice.key").exists()


def test_a_key_file_with_json_is_not_repeated_on_stdout(cli: Cli) -> None:
    assert cli.json("user", "add", "alice", "--key-file", "alice.key")["key"]["secret"] is None


def test_users_and_groups_are_listed_as_typed_json(cli: Cli, filled: Fill) -> None:
    filled("sales/alice", "bob")
    assert cli.json("user", "list") == [
        {
            "name": "alice",
            "group": "sales",
            "email": None,
            "active_keys": 1,
            "state": "active",
            "disabled": False,
            "disabled_by": None,
            "created_at": "2026-11-23T14:00:00Z",
            "last_used_at": None,
        },
        {
            "name": "bob",
            "group": None,
            "email": None,
            "active_keys": 1,
            "state": "active",
            "disabled": False,
            "disabled_by": None,
            "created_at": "2026-11-23T14:00:00Z",
            "last_used_at": None,
        },
    ]
    assert [user["name"] for user in cli.json("user", "list", "--group", "sales")] == ["alice"]
    (group,) = cli.json("group", "list")
    assert (group["name"], group["users"], group["disabled"]) == ("sales", 1, False)


def test_empty_lists_are_an_empty_array_a_header_or_a_hint(cli: Cli) -> None:
    for noun in ("group", "user", "key", "limit", "model"):
        assert cli.json(noun, "list") == []
        assert len(cli(noun, "list", "-o", "csv").out.splitlines()) == 1
        assert "llmctl" in cli(noun, "list").out


def test_groups_nest_and_show_their_zone(cli: Cli) -> None:
    cli("group", "add", "sales", "--timezone", "Europe/Berlin")
    assert cli("group", "add", "emea", "--parent", "sales").out == "Added group emea below sales.\n"
    shown = cli.json("group", "show", "emea")
    assert (shown["parent"], shown["timezone"], shown["effective_timezone"]) == ("sales", None, "Europe/Berlin")
    assert "Europe/Berlin (inherited)" in cli("group", "show", "emea").out
    assert cli.json("group", "show", "sales")["groups"] == ["emea"]


def test_a_group_says_whether_prompts_are_kept_and_by_whose_word(cli: Cli) -> None:
    cli("group", "add", "sales")
    cli("group", "add", "emea", "--parent", "sales")
    assert "Contents   not kept\n" in cli("group", "show", "emea").out
    cli("content", "keep", "sales")
    assert "Contents   kept for 30 days\n" in cli("group", "show", "sales").out
    assert "Contents   kept for 30 days (group sales)\n" in cli("group", "show", "emea").out
    shown = cli.json("group", "show", "emea")
    assert (shown["keeps_content"], shown["keeps_content_by"]) == (False, "group sales")


def test_disable_and_enable_say_when_nothing_changes(cli: Cli, filled: Fill) -> None:
    filled("alice")
    assert cli("user", "disable", "alice").out == "User alice is disabled.\n"
    again = cli("user", "disable", "alice")
    assert again.out == "User alice is disabled already: unchanged.\n"
    assert cli.json("user", "list")[0]["disabled"] is True
    assert cli.json("user", "enable", "alice") == {"user": "alice", "disabled": False, "changed": True}


def test_a_user_is_shown_with_all_that_binds_them(cli: Cli, filled: Fill) -> None:
    filled("sales/alice")
    cli("limit", "set", "--org", "--cost", "1000", "--per", "month")
    cli("limit", "set", "--group", "sales", "--each", "user", "--cost", "50", "--per", "month")
    cli("model", "deny", "gpt-5-pro")
    shown = cli("user", "show", "alice").out
    assert "deny gpt-5-pro (organisation)" in shown
    assert "Limits  $1,000.00/month, organisation\n        $50.00/month, own\n" in shown
    limits = cli.json("user", "show", "alice")["limits"]
    assert [(limit["id"], limit["on"]) for limit in limits] == [("l1", "org"), ("l2", "group")]


def test_keys_are_created_named_listed_and_revoked(cli: Cli, filled: Fill) -> None:
    filled("alice")
    created = cli("key", "create", "alice", "--name", "laptop", "--expires", "2026-12-31")
    assert SECRET.fullmatch(created.out.strip())
    keys = {key["name"]: key for key in cli.json("key", "list", "alice")}
    assert keys["laptop"]["expires_at"] == "2026-12-31T00:00:00Z"
    assert cli("key", "revoke", "alice/laptop").out.startswith("Revoked alice/laptop (k_")
    assert "unchanged" in cli("key", "revoke", keys["laptop"]["id"]).out
    assert [key["name"] for key in cli.json("key", "list")] == ["default"]
    assert {key["state"] for key in cli.json("key", "list", "--all")} == {"active", "revoked"}


def test_rotation_keeps_the_key_and_ends_the_old_secret_at_once_or_after_a_grace(cli: Cli) -> None:
    first = cli.secret("user", "add", "alice")
    (before,) = cli.json("key", "list")
    rotated = cli("key", "rotate", "alice")
    assert "The old secret is dead." in rotated.err
    assert rotated.out.strip() != first
    graceful = cli("key", "rotate", "alice/default", "--grace", "24h")
    assert "The old secret works until 24 Nov 14:00 UTC." in graceful.err
    assert "llmctl key revoke alice/default --old" in graceful.err
    (after,) = cli.json("key", "list")
    assert after["id"] == before["id"]
    assert after["old_secret_until"] == "2026-11-24T14:00:00Z"
    assert cli.json("key", "revoke", "alice", "--old")["changed"] is True
    assert cli.json("key", "revoke", "alice", "--old")["changed"] is False
    assert cli.json("key", "show", "alice")["state"] == "active"


def test_a_bare_user_names_a_key_only_while_there_is_one(cli: Cli, filled: Fill) -> None:
    filled("alice")
    cli("key", "create", "alice", "--name", "ci")
    failed = cli("key", "rotate", "alice", code=1)
    assert failed.err == ("error: alice has 2 active keys: alice/default, alice/ci; name one of them as user/name\n")


def test_a_found_secret_is_read_from_stdin_and_never_repeated(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    secret = cli.secret("user", "add", "alice")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{secret}\n"))
    shown = cli("key", "show", "-")
    assert "alice/default" in shown.out
    assert secret not in shown.out
    monkeypatch.setattr("sys.stdin", io.StringIO("sk-llmctl-wrong\n"))
    assert cli("key", "show", "-", code=1).err.startswith("error: no key has this secret")


def test_a_secret_as_an_argument_is_refused_without_repeating_it(cli: Cli) -> None:
    secret = cli.secret("user", "add", "alice")
    failed = cli("key", "revoke", secret, code=1)
    assert secret not in failed.err


def test_every_change_is_in_the_audit_with_who_and_what(cli: Cli, filled: Fill) -> None:
    filled("alice")
    cli("limit", "set", "--user", "alice", "--cost", "100", "--per", "month")
    cli("limit", "set", "--user", "alice", "--cost", "120", "--per", "month")
    newest, *_ = cli.json("audit")
    assert newest["action"] == "limit set"
    assert (newest["before"]["amount"], newest["after"]["amount"]) == ("100.00", "120.00")
    assert newest["at"] == "2026-11-23T14:00:00Z"
    assert "$100.00/month -> $120.00/month" in cli("audit").out
    assert [entry["action"] for entry in cli.json("audit", "key")] == ["key create"]
    assert len(cli.json("audit", "-n", "2")) == 2


def test_in_the_audit_what_was_not_there_reads_as_when_it_was_changed(cli: Cli) -> None:
    cli("group", "add", "sales")
    cli("group", "add", "emea")
    told = cli("group", "set", "emea", "--parent", "sales").out
    assert "parent none -> sales" in told
    assert "  parent none -> sales\n" in cli("audit", "--action", "group set").out


def test_the_audit_names_the_person_behind_sudo(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("llmctl.cli.context.LOGIN_UID", tmp_path / "loginuid")
    monkeypatch.setattr("os.getuid", lambda: 0)
    monkeypatch.setenv("SUDO_USER", "carol")
    cli("user", "add", "alice")
    assert cli.json("audit", "-n", "1")[0]["actor"] == "root (carol)"
    (tmp_path / "loginuid").write_text("54321")  # what the kernel says counts, not what the environment does
    cli("user", "add", "bob")
    assert cli.json("audit", "-n", "1")[0]["actor"] == "root (uid 54321)"


def test_the_audit_is_filtered_by_person_action_subject_and_time(cli: Cli, filled: Fill) -> None:
    filled("sales/alice")
    cli.now_s += 3 * 86_400
    cli("user", "remove", "alice", "--yes")
    assert [entry["action"] for entry in cli.json("audit", "--action", "user remove")] == ["user remove"]
    assert {entry["subject"] for entry in cli.json("audit", "--subject", "ALICE")} == {"alice", "alice/default"}
    assert [entry["action"] for entry in cli.json("audit", "--since", "1d")] == ["user remove"]
    assert "user remove" not in {entry["action"] for entry in cli.json("audit", "--until", "2026-11-24")}
    assert cli.json("audit", "--actor", "nobody-else") == []


def test_in_csv_a_new_key_has_cells_of_its_own(cli: Cli) -> None:
    header, row = csv.reader(cli("user", "add", "alice", "-o", "csv").out.splitlines())
    made = dict(zip(header, row, strict=True))
    assert made["user"] == "alice" and made["key_name"] == "default"
    assert made["key_secret"].startswith("sk-llmctl-")


def test_a_group_below_a_disabled_one_says_who_shuts_it_out(cli: Cli) -> None:
    cli("group", "add", "company")
    cli("group", "add", "sales", "--parent", "company")
    cli("group", "disable", "company")
    assert [(one["name"], one["disabled"], one["disabled_by"]) for one in cli.json("group", "list")] == [
        ("company", True, "group company"),
        ("sales", False, "group company"),
    ]
    assert "disabled (group company)" in cli("group", "show", "sales").out
    cli("group", "enable", "company")
    assert {one["disabled_by"] for one in cli.json("group", "list")} == {None}
