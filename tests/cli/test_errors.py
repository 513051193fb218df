"""What goes wrong, and that each error is one line that says what to do."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from llmctl.cli.app import MODULES

from .conftest import Cli

Fill = Callable[..., None]


def test_an_unknown_name_gets_a_suggestion(cli: Cli) -> None:
    cli("group", "add", "sales")
    failed = cli("user", "add", "alice", "--group", "slaes", code=1)
    assert failed.err == 'error: no group "slaes"; did you mean "sales"?  See: llmctl group list\n'
    assert failed.out == ""


def test_no_database_names_the_file_and_the_mend(cli: Cli, empty: Path) -> None:
    (empty / "llmctl.db").unlink()
    for args in (["usage"], ["user", "add", "alice"], ["calls"], ["doctor"]):
        assert cli(*args, code=1).err == "error: no database llmctl.db; mount it, or: llmctl init --if-not-exists\n"


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("config.toml", ""),
        ("xdg/llmctl/config.toml", ""),
        ("a b.toml", "--config 'a b.toml'"),
        ("config.toml", "--database other.db"),
        ("", "--database other.db"),
    ],
)
def test_the_mend_of_a_missing_database_makes_the_one_that_was_asked_for(
    bare_cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch, place: str, words: str
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "xdg"))
    (home / "xdg/llmctl").mkdir(parents=True)
    if place:
        (home / place).write_text('database = "x.db"\n[providers.sandbox]\n')
        (home / place).chmod(0o600)
    command = ("user", "list", *shlex.split(words))
    mend = shlex.split(bare_cli(*command, code=1).err.partition(", or: ")[2])
    assert mend[0] == "llmctl"
    bare_cli(*mend[1:])
    assert bare_cli.json(*command) == []
    assert (home / "config.toml").exists() == (place in ("config.toml", ""))


def test_no_configuration_names_the_mend(bare_cli: Cli) -> None:
    assert bare_cli("usage", code=1).err == ("error: no config.toml here; name one with --config, or: llmctl init\n")
    named = bare_cli("usage", "--config", "x.toml", code=1)
    assert named.err == "error: no configuration x.toml; llmctl --config x.toml init makes one\n"


def test_a_database_can_be_named_without_a_configuration(
    cli: Cli, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty / "llmctl.db").rename(empty / "other.db")
    (empty / "config.toml").unlink()
    assert cli("user", "list", "--database", "other.db", "-o", "json").json == []
    monkeypatch.setenv("LLMCTL_DATABASE", str(empty / "other.db"))
    assert cli.json("user", "list") == []


def test_a_wrong_configuration_names_file_line_and_what_to_write(cli: Cli, empty: Path) -> None:
    (empty / "config.toml").write_text('\n[providers.openai]\ncredental_env = "X"\n')
    failed = cli("usage", code=1)
    assert failed.err == 'error: config.toml:3: unknown key "credental_env"; write "credential_env"\n'
    assert cli("config", "check", code=1).err == failed.err


def test_errors_as_json_are_one_object_on_stderr(cli: Cli) -> None:
    failed = cli("user", "show", "bob", "-o", "json", code=1)
    assert failed.out == ""
    assert failed.error == {"code": "not_found", "message": 'no user "bob"', "hint": "See: llmctl user list"}
    assert cli("-o", "json", "user", "add", code=2).error["code"] == "usage"
    assert cli("--format=json", "user", "add", code=2).error["code"] == "usage"


@pytest.mark.parametrize(
    ("args", "wrong"),
    [
        (["uesr"], 'error: no command "llmctl uesr"; did you mean "user"?  See: llmctl --help'),
        (["user", "lst"], 'error: no command "llmctl user lst"; did you mean "list"?  See: llmctl user --help'),
        (["user", "xyz"], 'error: no command "llmctl user xyz"; See: llmctl user --help'),
        (["user", "add"], "error: missing argument 'NAME'; See: llmctl user add --help"),
        (["user", "add", "a", "b"], "error: b is one argument too many; See: llmctl user add --help"),
        (["user", "list", "--json"], "error: no flag --json; did you mean -o json?  See: llmctl user list --help"),
        (["user", "list", "--gruop", "x"], "error: no flag --gruop; did you mean --group?  See:"),
        (["user", "list", "--group"], "error: option '--group' requires an argument; See: llmctl user list --help"),
        (["user", "list", "-o", "xml"], "error: -o xml is not possible; write one of table, json, csv"),
        (["--color", "blue", "user", "list"], "error: --color blue is not possible; write one of auto, always, never"),
        (["user", "add", "al ice"], "error: 'al ice' is not a user name; use up to 64 letters"),
        (["user", "add", "a", "--expires", "soon"], "error: 'soon' is not a time; write it as 15m"),
        (
            ["calls", "--since", "2026-11-23T10:00:00.250Z"],
            "error: '2026-11-23T10:00:00.250Z' has parts of a second; write 2026-11-23T10:00:00+00:00",
        ),
        (["usage", "--until", "7d"], "error: '7d' is not a time; write it as today, 2026-11-23 or 2026"),
        (["price", "set", "m", "--input", "1", "--from", "7d"], "error: '7d' is not a time; write it as today, "),
        (["user", "add", "a", "--expires", "2020-01-01"], "error: '2020-01-01' has passed already"),
        (["key", "rotate", "a", "--grace", "1y"], "error: '1y' is not a span of time"),
        (
            ["limit", "set", "--org", "--model", "", "--cost", "5", "--per", "day"],
            "error: --model is empty; write --model",
        ),
        (
            ["user", "add", "a", "--no-key", "--key-file", "f"],
            "error: --no-key and --key-file are both given; name one",
        ),
        (["user", "import", "f", "--no-key", "--key-file", "f"], "error: --no-key and --key-file are both given; name"),
        (["user", "add", "a", "--no-key", "--expires", "5d"], "error: --no-key and --expires are both given; name one"),
        (["user", "import", "f", "--no-key", "--expires", "5d"], "error: --no-key and --expires are both given; name"),
        (["usage", "--model", ""], "error: --model is empty; write --model PATTERN or leave it out"),
        (["usage", "--by", " "], "error: --by is empty; write --by COLUMNS or leave it out"),
        (["calls", "--end-user="], "error: --end-user is empty; write --end-user NAME or leave it out"),
        (["user", "add", "a", "--expires", ""], "error: --expires is empty; write --expires WHEN or leave it out"),
        (
            ["group", "add", "a", "--allow-from", ""],
            "error: --allow-from is empty; write --allow-from NETWORK or leave",
        ),
        (["user", "list", "--database", ""], "error: --database is empty; write --database FILE or leave it out"),
        (["user", "list", "-o", ""], "error: --format is empty; write --format FORMAT or leave it out"),
        (["usage", "--last", "7x"], "error: '7x' is not a span of time"),
        (["usage", "--by", "colour"], "error: --by 'colour' is not possible"),
        (["usage", "--since", "2026-11-20", "--until", "2026-11-01"], "error: the time asked for ends before"),
        (["usage", "--last", "7d", "--until", "today"], "error: --last goes without --since and --until"),
        (["calls", "--follow", "--sort", "cost_usd"], "error: --follow goes by time; leave out --sort"),
        (["calls", "--follow", "--until", "2026-11-01"], "error: --follow has no end; leave out --until"),
        (["why", "--user", "a", "--key", "a/b", "--model", "m"], "error: --user and --key are both given; name one of"),
        (["calls", "-n", "0"], "error: -n 0 is not possible; write 1 to"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(cli: Cli, args: list[str], wrong: str) -> None:
    failed = cli(*args, code=2)
    assert failed.err.startswith(wrong)
    assert failed.err.count("\n") == 1
    assert failed.out == ""


def test_a_wrong_output_format_changes_nothing(cli: Cli) -> None:
    cli("user", "add", "alice", "-o", "xml", code=2)
    assert cli.json("user", "list") == []


def test_control_characters_in_arguments_are_not_echoed(cli: Cli) -> None:
    failed = cli("user", "show", "\x1b[2Jevil\nname", code=1)
    assert "\x1b" not in failed.err
    assert failed.err.count("\n") == 1


@pytest.mark.parametrize(
    "args",
    [
        ("user", "show"),
        ("group", "show"),
        ("key", "show"),
        ("key", "list", "--user"),
        ("calls", "--tag"),
        ("usage", "--group"),
        ("content", "keep"),
        ("limit", "grant", "l1", "--tokens", "5", "--for", "7d", "--reason", "x", "--user"),
    ],
)
def test_an_argument_that_is_not_utf_8_is_a_usage_mistake(cli: Cli, args: tuple[str, ...]) -> None:
    failed = cli(*args, "caf\udce9", code=2)
    assert failed.err == "error: argument 'caf\\xe9' is not UTF-8; write it as UTF-8\n"
    assert cli(*args, "caf\udce9", "-o", "json", code=2).error["code"] == "usage"


def test_an_unexpected_failure_is_one_line_and_a_traceback_only_on_request(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr("llmctl.store.groups.listing", broken)
    failed = cli("group", "list", code=1)
    assert failed.err == "error: RuntimeError: boom; this is a bug; LLMCTL_DEBUG=1 shows where\n"
    monkeypatch.setenv("LLMCTL_DEBUG", "1")
    assert "Traceback" in cli("group", "list", code=1).err


def test_ctrl_c_is_exit_130(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("llmctl.store.groups.listing", interrupted)
    assert cli("group", "list", code=130).err == ""


def test_common_flags_work_before_and_after_the_command(cli: Cli) -> None:
    cli("group", "add", "sales")
    after = cli("group", "list", "-o", "json", "--config", "config.toml").out
    assert cli("-o", "json", "--config", "config.toml", "group", "list").out == after
    assert cli("group", "-o", "json", "list").out == after


@pytest.mark.parametrize("args", [[], ["-h"], ["--help"], ["user"], ["user", "-h"], ["user", "add", "--help"]])
def test_help_is_plain_text_on_stdout(cli: Cli, args: list[str]) -> None:
    shown = cli(*args)
    assert shown.out.startswith("Usage: llmctl")
    assert shown.err == ""
    assert not set("╭│─╰") & set(shown.out)


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"serve"}))
def test_every_command_has_help_for_itself_and_every_flag(cli: Cli, name: str) -> None:
    page = cli(name, "--help").out
    verbs = []
    if "Commands:" in page:
        listing = page.split("Commands:\n")[1].split("\n\n")[0]
        verbs = [line.split()[0] for line in listing.splitlines() if line.startswith("  ") and line[2] != " "]
    for args in [[name], *([name, verb] for verb in verbs)]:
        for line in cli(*args, "-h").out.splitlines():
            if line.startswith("  -"):
                assert len(line.strip().split("  ", 1)) == 2, line


def test_the_version_is_told(cli: Cli) -> None:
    from llmctl import __version__

    assert cli("--version").out == f"llmctl {__version__}\n"


def test_a_directory_is_named_as_what_it_is(cli: Cli, empty: Path) -> None:
    (empty / "data").mkdir()
    says = "error: data is a directory, not a database; name the file: data/llmctl.db\n"
    for args in (["usage"], ["user", "add", "alice"], ["serve"], ["backup", "copy.db"]):
        assert cli(*args, "--database", "data", code=None).err.splitlines()[-1] == says.rstrip(), args
    assert cli("usage", "--database", "data", code=1).err == says
