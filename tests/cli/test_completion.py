"""Completion in the shell: commands, flags, and names from the database."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from llmctl.cli.complete import SORTED
from tests.reference import commands

from .conftest import Cli

Fill = Callable[..., None]
Ask = Callable[..., list[str]]


@pytest.fixture
def ask(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """What may stand in place of the last word."""

    def complete(*words: str) -> list[str]:
        with monkeypatch.context() as patch:
            patch.setenv("_LLMCTL_COMPLETE", "1")
            done = cli(*words, code=None)
        assert done.err == ""
        return done.out.splitlines()

    return complete


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["us"], ["user", "usage"]),
        (["user", "m"], ["move"]),
        (["user", "move", "al"], ["alice@example.org"]),
        (["user", "move", "alice@example.org", "--gr"], ["--group"]),
        (["user", "move", "alice@example.org", "--group", "S"], ["saarland", "sales"]),
        (["-o", "json", "group", "show", "sal"], ["sales"]),
        (["group", "show", "-o", ""], ["table", "json", "csv"]),
        (["key", "rotate", "alice@example.org/"], ["alice@example.org/default"]),
        (["limit", "remove", ""], ["l1"]),
        (["limit", "set", "--per", "mo"], ["month"]),
        (["apply", "conf"], ["config.toml"]),
        (["price", "show", "openai/gpt-x"], ["openai/gpt-x1"]),
        (["price", "show", "gpt-x"], ["gpt-x1"]),
        (["why", "--model", "gpt-x"], ["gpt-x1"]),
        (["provider", "check", ""], ["openai", "sandbox"]),
        (["usage", "--provider", "o"], ["openai"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["audit", "--action", "limit"], ["limit set"]),
        (["alert", "list", "--kind", "pro"], ["provider"]),
        (["calls", "--sort", "cost"], ["cost_usd"]),
        (["calls", "--sort", "-cost"], ["-cost_usd"]),
        (["usage", "--sort", "c"], ["cost", "calls", "cache_read_tokens", "cache_write_tokens", "cost_usd"]),
        (["usage", "--by", "user,mo"], ["user,model", "user,month"]),
        (["group", "add", ""], []),
        (["group", "rename", "sales", ""], []),
        (["nonsense", ""], []),
        (["--database", "nowhere.db", "group", "show", ""], []),
    ],
    ids=" ".join,
)
def test_the_next_word_is_known(cli: Cli, filled: Fill, ask: Ask, words: list[str], expected: list[str]) -> None:
    filled("sales/alice@example.org", "saarland/bob")
    cli("limit", "set", "--org", "--cost", "5", "--per", "month")
    cli("price", "set", "openai/gpt-x1", "--input", "1", "--output", "2")
    assert ask(*words) == expected


def test_a_key_is_known_by_its_id_too(cli: Cli, filled: Fill, ask: Ask) -> None:
    filled("alice")
    (key,) = cli.json("key", "list")
    assert ask("key", "show", "k_") == [key["id"]]
    assert ask("key", "show", "") == ["alice/default"]


@pytest.mark.parametrize("path", sorted(SORTED))
def test_every_list_is_completed_with_the_columns_that_it_is_sorted_by(cli: Cli, ask: Ask, path: str) -> None:
    args = [*path.split(), *(["gpt-5"] if path == "price history" else [])]
    header = cli(*args, "-o", "csv").out.splitlines()[0].split(",")
    offered = ask(*args, "--sort", "")
    assert set(offered) >= {*header} - {"group", "group_id"}
    for column in offered:
        cli(*args, "--sort", column)


def test_every_command_that_is_sorted_on_demand_is_completed() -> None:
    flagged = {path for path, command in commands() if any("--sort" in param.opts for param in command.params)}
    assert flagged == {*SORTED}


def test_of_ten_thousand_names_fifty_come_at_once(cli: Cli, empty: Path, ask: Ask) -> None:
    (empty / "users.csv").write_text("name\n" + "".join(f"user{n}\n" for n in range(10_000)))
    cli("user", "import", "users.csv", "--no-key")
    environment = {**os.environ, "_LLMCTL_COMPLETE": "1"}
    took_s = []
    for _ in range(5):
        began_s = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "llmctl", "user", "show", "user99"], env=environment, capture_output=True, text=True
        )
        took_s.append(time.perf_counter() - began_s)
    assert len(done.stdout.splitlines()) == 50
    assert min(took_s) < 2  # 0.09 s on an idle machine


def in_bash(line: str, home: Path) -> list[str]:
    """What bash itself would offer at the end of this line."""
    script = """
    source <(llmctl completion bash)
    COMP_LINE=$1 COMP_POINT=${#1}
    _llmctl 2>/dev/null
    printf '%s\\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "-c", script, "bash", line], cwd=home, env=with_llmctl(), capture_output=True, text=True
    )
    return done.stdout.split()


def with_llmctl() -> dict[str, str]:
    """The environment in which shells find the program."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_also_words_that_it_cuts_itself(cli: Cli, filled: Fill, empty: Path) -> None:
    filled("sales/alice@example.org")
    assert in_bash("llmctl group show ", empty) == ["sales"]
    assert in_bash("llmctl user show ali", empty) == ["alice@example.org"]
    assert in_bash("llmctl user show alice@ex", empty) == ["example.org"]
    assert in_bash("llmctl grou", empty) == ["group"]
    assert in_bash("llmctl audit --action user\\ a", empty) == ["user\\", "add"]


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish")
def test_fish_completes(cli: Cli, filled: Fill, empty: Path) -> None:
    filled("sales/alice@example.org", "saarland/bob")

    def offered(line: str) -> list[str]:
        script = "source (llmctl completion fish | psub); complete -C $argv[1]"
        done = subprocess.run(
            ["fish", "-c", script, line], cwd=empty, env=with_llmctl(), capture_output=True, text=True
        )
        return done.stdout.split()

    assert offered("llmctl usa") == ["usage"]
    assert offered("llmctl user show ali") == ["alice@example.org"]
    assert offered("llmctl user move bob --group s") == ["saarland", "sales"]
    assert offered("llmctl user move bob --gr") == ["--group"]
    assert offered("llmctl apply conf") == ["config.toml"]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh")
def test_zsh_completes(cli: Cli, filled: Fill, empty: Path) -> None:
    filled("sales/alice@example.org")
    (empty / "config.d").mkdir()
    with Zsh(empty) as zsh:
        assert zsh.completed("llmctl usa") == "llmctl usage "
        assert zsh.completed("llmctl user show ali") == "llmctl user show alice@example.org "
        assert zsh.completed("llmctl user move alice@example.org --gr") == "llmctl user move alice@example.org --group "
        assert zsh.completed("llmctl limit set --per mo") == "llmctl limit set --per month "
        assert zsh.completed("llmctl apply config.d") == "llmctl apply config.d/"
        assert zsh.completed("llmctl nonsense x") == "llmctl nonsense x"


class Zsh:
    """A shell on a terminal of its own. A widget prints the line as it stands after completion, so nobody has to wait
    for a time."""

    SETUP = r"""
        PS1=; PS2=; unsetopt prompt_cr prompt_sp beep; autoload -Uz compinit; compinit -u -D
        source <(llmctl completion zsh)
        complete-and-print() { zle expand-or-complete; print -r -- "<<$BUFFER>>"; zle kill-whole-line }
        zle -N complete-and-print; bindkey '^I' complete-and-print; print -r -- "<<"ready">>"
    """

    def __init__(self, directory: Path) -> None:
        self._main, side = pty.openpty()
        self._process = subprocess.Popen(
            ["zsh", "-f", "-i"],
            cwd=directory,
            stdin=side,
            stdout=side,
            stderr=side,
            env=with_llmctl() | {"TERM": "dumb", "COLUMNS": "200"},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(side)
        self._printed = ""

    def __enter__(self) -> Zsh:
        script = "; ".join(line.strip() for line in self.SETUP.strip().splitlines())
        os.write(self._main, f"{script}\n".encode())
        assert self._next() == "ready"
        return self

    def completed(self, line: str) -> str:
        os.write(self._main, f"{line}\t".encode())
        return self._next()

    def _next(self) -> str:
        """The next `<<text>>` that is not the echo of what was typed."""
        until_s = time.monotonic() + 10
        while time.monotonic() < until_s:
            found = re.search(r"<<([^$>\"]*)>>", self._printed)
            if found:
                self._printed = self._printed[found.end() :]
                return found[1]
            if select.select([self._main], [], [], 0.2)[0]:
                self._printed += os.read(self._main, 65_536).decode(errors="replace")
        raise AssertionError(self._printed)

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._main)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_script_is_one_that_its_shell_reads(cli: Cli, shell: str) -> None:
    script = cli("completion", shell).out
    assert "_LLMCTL_COMPLETE=1" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


def test_another_shell_is_named_with_what_there_is(cli: Cli) -> None:
    assert "write one of bash, zsh, fish" in cli("completion", "tcsh", code=2).err
