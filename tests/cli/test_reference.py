"""The whole tree of commands: documented, and one flag means one thing everywhere."""

from __future__ import annotations

from collections import defaultdict

import pytest

from llmctl.cli.command import Command, Noun
from tests import reference

from .conftest import Cli

TREE = list(reference.commands())
VERBS = [(path, command) for path, command in TREE if isinstance(command, Command)]
LISTS = [path for path, _ in VERBS if path.endswith(" list")]
DESTRUCTIVE = ("remove", "restore", "prune", "reset", "reprice", "withdraw")
NEVER_ASK = ("disable", "enable", "revoke")
# Short on purpose, or with a meaning that only its own command can have.
OWN_METAVARS = {"--limit", "--model", "--name"}


def test_the_readme_has_the_reference_of_today(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", reference.COLUMNS)
    current = reference.README.read_text(encoding="utf-8")
    assert reference.written(current) == current, "run: make docs"


@pytest.mark.parametrize("columns", ["60", "80", "200"])
def test_every_help_page_fits_and_says_what_everything_is(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    for path, command in TREE:
        page = reference.help_of(path, command)
        assert command.help, path
        for param in command.params:
            assert getattr(param, "help", "") or param.param_type_name == "argument", (path, param.name)
        for line in page.splitlines():
            is_example = line.startswith("  ") and not line.startswith("   ")
            assert len(line) <= int(columns) or is_example or line.startswith("Usage:"), (path, line)
            assert "    " not in line or line.startswith("  "), (path, "an example that runs into the text", line)


def test_a_flag_takes_the_same_kind_of_value_everywhere() -> None:
    metavars: dict[str, set[str]] = defaultdict(set)
    for _, command in TREE:
        for param in command.params:
            for flag in param.opts:
                if flag.startswith("--"):
                    metavars[flag].add(param.metavar or "")
    different = {flag: found for flag, found in metavars.items() if len(found) > 1 and flag not in OWN_METAVARS}
    assert different == {}


def test_destructive_verbs_ask_and_emergencies_never_do() -> None:
    for path, command in VERBS:
        flags = {flag for param in command.params for flag in param.opts}
        verb = path.rpartition(" ")[2]
        if verb in DESTRUCTIVE:
            assert {"--yes", "--dry-run"} <= flags, path
        if verb in NEVER_ASK:
            assert "--yes" not in flags, path


@pytest.mark.parametrize("path", LISTS)
def test_every_list_is_a_table_json_and_csv_and_is_sorted_on_demand(cli: Cli, path: str) -> None:
    assert isinstance(cli.json(*path.split()), list)
    header, *_ = cli(*path.split(), "-o", "csv").out.splitlines()
    cli(*path.split(), "--sort", header.split(",")[0])
    failed = cli(*path.split(), "--sort", "nonsense", code=2)
    assert failed.err.startswith("error: --sort 'nonsense' is not possible; ")


@pytest.mark.parametrize("path", [path for path, command in TREE if isinstance(command, Noun)])
def test_a_bare_noun_prints_its_help_and_an_unknown_verb_one_line(cli: Cli, path: str) -> None:
    assert cli(path).out.startswith(f"Usage: llmctl {path} COMMAND")
    failed = cli(path, "nonsense", code=2)
    assert failed.err.count("\n") == 1


@pytest.mark.parametrize(("path", "command"), VERBS, ids=[path for path, _ in VERBS])
def test_an_unknown_flag_is_one_line_with_the_way_to_the_help(cli: Cli, path: str, command: Command) -> None:
    failed = cli(*path.split(), "--nonsense", code=2)
    assert failed.out == ""
    assert failed.err.count("\n") == 1
    assert f"See: llmctl {path} --help" in failed.err


def test_examples_keep_their_lines(cli: Cli) -> None:
    for command in (("calls",), ("limit",), ("why",)):
        lines = cli(*command, "-h").out.splitlines()
        examples = [line for line in lines if line.startswith("  llmctl ")]
        assert len(examples) >= 2 and not any(" llmctl " in line[4:] for line in examples)
