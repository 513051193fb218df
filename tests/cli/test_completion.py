"""Completion in the shell: commands, flags, and names from the database."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

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
    assert ask(*words) == expected


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
    assert min(took_s) < 0.3  # 0.09 s on an idle machine


def in_bash(line: str, home: Path) -> list[str]:
    """What bash itself would offer at the end of this line."""
    script = """
    source <(llmctl completion bash)
    COMP_LINE=$1 COMP_POINT=${#1}
    _llmctl 2>/dev/null
    printf '%s\\n' "${COMPREPLY[@]}"
    """
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script, "bash", line], cwd=home, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_bash_completes_also_words_that_it_cuts_itself(cli: Cli, filled: Fill, empty: Path) -> None:
    filled("sales/alice@example.org")
    assert in_bash("llmctl group show ", empty) == ["sales"]
    assert in_bash("llmctl user show ali", empty) == ["alice@example.org"]
    assert in_bash("llmctl user show alice@ex", empty) == ["example.org"]
    assert in_bash("llmctl grou", empty) == ["group"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_script_is_one_that_its_shell_reads(cli: Cli, shell: str) -> None:
    script = cli("completion", shell).out
    assert "_LLMCTL_COMPLETE=1" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


def test_another_shell_is_named_with_what_there_is(cli: Cli) -> None:
    assert "write one of bash, zsh, fish" in cli("completion", "tcsh", code=2).err
