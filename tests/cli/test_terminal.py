"""The installed command as a process of its own: in pipes, and in a terminal of some width."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from llmctl.cli.text import cells

from .shop import DOLLAR, Shop

LLMCTL = Path(sys.executable).with_name("llmctl")
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
PER_MONTH = ["--cost", "20000", "--per", "month"]
WIDE = "模型-大きい-🙂-" + "x" * 80


@pytest.fixture
async def shop(empty: Path) -> Path:
    now_s = int(time.time())
    async with Shop(empty / "llmctl.db", now_s=now_s) as shop:
        shop.group("engineering-and-research")
        shop.user("alice", "engineering-and-research")
        await shop.call("alice", cost=3 * DOLLAR)
        await shop.call("alice", model=WIDE, provider="local", cost=DOLLAR)
        await shop.call("alice", model="x[/bold]", cost=None)
    return empty


def piped(*args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(LLMCTL), *args], capture_output=True, text=True, timeout=30, env={**os.environ, **environ}
    )


def in_terminal(width: int, *args: str, **environ: str) -> str:
    """What a terminal of this width gets."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    process = subprocess.Popen(
        [str(LLMCTL), *args],
        stdin=side,
        stdout=side,
        stderr=side,
        env={**os.environ, "TERM": "xterm-256color", **environ},
    )
    os.close(side)
    printed = b""
    while True:
        try:
            part = os.read(main, 65_536)
        except OSError:  # Linux: the other side is closed
            break
        if not part:
            break
        printed += part
    process.wait(timeout=30)
    os.close(main)
    return printed.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("width", [60, 80, 200])
def test_tables_fit_the_terminal(shop: Path, width: int) -> None:
    subprocess.run([LLMCTL, "limit", "set", "--user", "alice", "--cost", "9", "--per", "month"], check=True)
    long = ["--tokens", "2000000", "--per", "week", "--model", "openrouter/anthropic/claude-*", "--soft"]
    subprocess.run([LLMCTL, "limit", "set", "--group", "engineering-and-research", "--each", "user", *long], check=True)
    for args in (
        ["usage"],
        ["usage", "--group", "engineering-and-research"],
        ["usage", "--user", "alice"],
        ["calls"],
        ["key", "list"],
        ["limit", "list"],
        ["audit"],
    ):
        lines = ESCAPE.sub("", in_terminal(width, *args)).splitlines()
        table = [line for line in lines if not line.startswith(("!", "* nearest", "l2 is shown"))]
        assert max(cells(line) for line in table) <= width, (args, table)
        assert args[0] != "usage" or "COST" in "".join(lines)


def test_a_narrow_terminal_drops_the_trend_first_then_cached_never_the_cost(shop: Path) -> None:
    def headings(width: int) -> str:
        return in_terminal(width, "usage", "--user", "alice", NO_COLOR="1").splitlines()[2]

    assert "7 DAYS" in headings(200)
    assert "CACHED" in headings(200)
    # The model's name is cut only after the columns went.
    assert "7 DAYS" not in headings(60)
    assert headings(40).split() == ["MODEL", "CALLS", "COST"]


def test_a_pipe_gets_everything_without_colours_whatever_the_width(shop: Path) -> None:
    done = piped("usage", "--user", "alice", COLUMNS="40", TERM="xterm-256color")
    assert WIDE in done.stdout
    assert "7 DAYS" in done.stdout
    assert "\x1b" not in done.stdout
    assert "x[/bold]" in done.stdout


@pytest.mark.parametrize(
    ("environ", "colours"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False), ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False)],
)
def test_colours_in_a_terminal(shop: Path, environ: dict[str, str], colours: bool) -> None:
    assert ("\x1b[" in in_terminal(100, "usage", **environ)) is colours


def test_colours_on_request(shop: Path) -> None:
    assert "\x1b[" in piped("usage", "--color", "always").stdout
    assert "\x1b[" in piped("usage", FORCE_COLOR="1").stdout
    assert "\x1b[" not in in_terminal(100, "usage", "--color", "never")


def test_columns_overrides_the_width_of_the_terminal(shop: Path) -> None:
    lines = in_terminal(200, "calls", COLUMNS="70", NO_COLOR="1").splitlines()
    assert max(cells(line) for line in lines) <= 70


def test_a_secret_in_a_terminal_stands_on_a_line_of_its_own(shop: Path) -> None:
    lines = in_terminal(80, "user", "add", "bob").splitlines()
    (secret,) = (line for line in lines if line.startswith("sk-llmctl-"))
    place = lines.index(secret)
    assert lines[place - 1] == lines[place + 1] == ""


def test_the_readme_way_of_keeping_a_key_works(shop: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", f'K=$({LLMCTL} user add carol) && printf %s "$K"'], capture_output=True, text=True, check=True
    )
    assert re.fullmatch(r"sk-llmctl-\w{49}", done.stdout)


def test_a_reader_that_leaves_early_is_no_failure(shop: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {LLMCTL} calls -o json | head -c 1"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_errors_and_exit_codes_of_the_installed_command(home: Path) -> None:
    assert piped().returncode == 0
    assert piped("usage").returncode == 1
    assert piped("usage", "--nonsense").returncode == 2
    done = piped("usage", "-o", "json")
    assert (done.stdout, json.loads(done.stderr)["error"]["code"]) == ("", "no_config")


def test_a_user_who_may_only_read_the_database_can_report(shop: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root to become somebody else")
    for parent in shop.parents:
        if parent.name.startswith(("pytest-", "popen-")):
            parent.chmod(0o755)
    for path in (*shop.iterdir(), shop):
        path.chmod(0o555 if path.is_dir() else 0o444)
    # All is imported before: the interpreter itself may lie where only root reads.
    code = (
        "import os, sys; from llmctl.cli.app import run; run(['usage']); run(['user', 'add', 'x']); print('NOBODY');"
        "sys.stdout.flush(); os.setgid(65534); os.setuid(65534);"
        "print([run(['usage', '--config', 'config.toml']), run(['user', 'add', 'eve', '--config', 'config.toml'])])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=shop)
    assert done.returncode == 0, done.stderr
    shown = done.stdout.split("NOBODY\n")[1]
    assert "$4.00" in shown
    assert shown.endswith("[0, 1]\n")
    assert done.stderr.splitlines()[-1].startswith("error: cannot open")


async def test_following_prints_each_call_once_when_it_ends(empty: Path) -> None:
    import asyncio

    now_s = int(time.time())
    async with Shop(empty / "llmctl.db", now_s=now_s) as shop:
        shop.user("alice")
        await shop.call("alice", at_s=now_s, asked="first")
        await shop.call("alice", at_s=now_s, asked="still-open", settle=False)
        process = subprocess.Popen(
            [str(LLMCTL), "calls", "--follow", "-o", "json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout is not None
            first = json.loads(await asyncio.to_thread(process.stdout.readline))
            await shop.call("alice", at_s=now_s + 1, asked="second")
            shop.refused("alice", model="third")
            rows = [json.loads(await asyncio.to_thread(process.stdout.readline)) for _ in range(2)]
        finally:
            process.send_signal(signal.SIGINT)
            rest, errors = process.communicate(timeout=10)
    assert [row["request_model"] for row in (first, *rows)] == ["first", "second", "third"]
    assert (process.returncode, rest, errors) == (130, "", "")


async def test_following_begins_with_as_many_calls_as_were_asked_for(empty: Path) -> None:
    async with Shop(empty / "llmctl.db", now_s=int(time.time())) as shop:
        shop.user("alice")
        for _ in range(5):
            await shop.call("alice")
    with subprocess.Popen(
        [str(LLMCTL), "calls", "--follow", "-n", "2", "-o", "csv"], stdout=subprocess.PIPE, text=True
    ) as process:
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        shown, _ = process.communicate(timeout=10)
    assert len(shown.splitlines()) == 3


async def test_following_failures_shows_calls_that_were_open_and_failed(empty: Path) -> None:
    import asyncio

    async with Shop(empty / "llmctl.db", now_s=int(time.time())) as shop:
        shop.user("alice")
        old = await shop.call("alice", asked="old", settle=False)
        fine = await shop.call("alice", asked="fine", settle=False)
        process = subprocess.Popen(
            [str(LLMCTL), "calls", "--follow", "--failed", "-o", "csv"], stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout is not None
            await asyncio.sleep(1.5)
            shop.end(fine)
            shop.end(old, status=500, error="server_error")
            await shop.call("alice", asked="new", status=503, error="overloaded")
            async with asyncio.timeout(20):
                lines = [await asyncio.to_thread(process.stdout.readline) for _ in range(3)]
        finally:
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=10)
    assert [line.split(",")[0] for line in lines[:1]] == ["id"]
    assert ["old" in lines[1], "new" in lines[2], rest] == [True, True, ""]


def test_help_imports_neither_the_store_nor_pydantic_nor_rich_tables() -> None:
    code = (
        "import sys; from llmctl.cli.app import run; run(['--help']);"
        "heavy = ('llmctl.store', 'llmctl.proxy', 'sqlite3', 'pydantic', 'rich.');"
        "print([m for m in sys.modules if m.startswith(heavy)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("args", [["usage"], ["calls"], ["user", "list"], ["limit", "list"]])
def test_commands_import_only_what_they_need(shop: Path, args: list[str]) -> None:
    code = (
        f"import sys; from llmctl.cli.app import run; run({args!r});"
        "print([m for m in sys.modules if m in ('pydantic', 'aiohttp', 'aiosqlite', 'asyncio', 'rich.console', 'csv')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_closed_stdout_stops_no_change_and_a_full_one_is_told(shop: Path) -> None:
    done = subprocess.run(["sh", "-c", f"{LLMCTL} user disable alice >&-"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(piped("user", "show", "alice", "-o", "json").stdout)["disabled"] is True
    done = subprocess.run(["sh", "-c", f"{LLMCTL} user list >/dev/full"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == (
        "error: cannot write the output: No space left on device; what was to be done may be done: look before you "
        "repeat it\n"
    )


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ("user remove alice", "error: nobody is there to answer: "),
        ("key show -", "error: no secret on stdin; "),
        ("apply - --prune --yes", "error: nothing on stdin; "),
        ("user import - --no-key", "error: -:1: "),
    ],
)
def test_a_closed_stdin_has_nothing_to_say(shop: Path, args: str, told: str) -> None:
    done = subprocess.run(["sh", "-c", f"{LLMCTL} {args} <&-"], capture_output=True, text=True)
    assert done.stderr.startswith(told)


def test_without_a_stdout_no_key_is_made_that_nobody_would_see(shop: Path) -> None:
    for args in ("user add zoe", "user add zoe -o json", "key create alice --name ci", "key rotate alice"):
        done = subprocess.run(["sh", "-c", f"{LLMCTL} {args} >&-"], capture_output=True, text=True)
        assert done.returncode == 1
        assert "stdout is closed, and the key is shown only once" in done.stderr
    assert "zoe" not in piped("user", "list").stdout
    assert len(json.loads(piped("user", "show", "alice", "-o", "json").stdout)["keys"]) == 1
    assert len(json.loads(piped("key", "show", "alice", "-o", "json").stdout)["secrets"]) == 1
    done = subprocess.run(["sh", "-c", f"{LLMCTL} user add zoe --no-key >&-"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


async def test_sixty_columns_keep_the_code_of_an_error_and_the_end_of_a_model(empty: Path) -> None:
    async with Shop(empty / "llmctl.db", now_s=int(time.time())) as shop:
        shop.user("alice")
        await shop.call("alice", model="claude-sonnet-4-5-20250929", provider="anthropic", cost=DOLLAR)
        shop.refused("alice", model="claude-sonnet-4-5-20250929")
    lines = ESCAPE.sub("", in_terminal(60, "calls")).splitlines()
    assert max(map(cells, lines)) <= 60
    assert all("20250929" in line for line in lines[1:3])
    assert lines[1].endswith("model_not_allowed")
    assert "TIME" not in lines[0]
    assert "TIME" in in_terminal(80, "calls").splitlines()[0]


async def test_a_note_points_at_its_mark_or_says_of_whom_it_is(empty: Path) -> None:
    async with Shop(empty / "llmctl.db", now_s=int(time.time())) as shop:
        shop.group("engineering")
        shop.user("alice", "engineering")
        await shop.call("alice", cost=DOLLAR)
    subprocess.run([LLMCTL, "limit", "set", "--group", "engineering", "--each", "user", *PER_MONTH], check=True)
    narrow, wide = in_terminal(60, "limit", "list"), in_terminal(100, "limit", "list")
    assert "RESETS" not in narrow
    assert "l1 is shown for alice, nearest of 1: llmctl limit show l1" in narrow
    assert "alice*" in wide
    assert "* nearest of 1: llmctl limit show l1" in wide


def test_one_row_has_its_share_of_the_limit_in_the_total(shop: Path) -> None:
    subprocess.run([LLMCTL, "limit", "set", "--org", *PER_MONTH], check=True)
    by_week = piped("usage", "--by", "week", "--since", "today").stdout.splitlines()
    assert by_week[4].startswith("TOTAL")
    assert by_week[4].endswith("of $20,000.00")
    assert "TOTAL" not in piped("usage", "--by", "week", "--since", "today", "--user", "alice").stdout
