"""`llmctl top` and `llmctl status`: the installed command on a real terminal, beside what the ledger books."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from llmctl.cli.screen import END_FRAME, ENTER, LEAVE
from llmctl.cli.text import cells
from llmctl.domain.usage import Usage
from llmctl.store import owners, serving

from .conftest import Cli
from .shop import DOLLAR, Shop

LLMCTL = Path(sys.executable).with_name("llmctl")
ESCAPE = re.compile(r"\x1b\[[?0-9;]*[A-Za-z]")
WAIT_S = 30.0  # a frame comes each second; the machine may have other things to do
HOSTILE = "x\x1b[31m[/bold]"


@pytest.fixture
async def shop(empty: Path) -> Path:
    async with Shop(empty / "llmctl.db", now_s=int(time.time())) as shop:
        shop.group("sales")
        for name in ("alice", "bob", "carol"):
            shop.user(name, "sales")
        for _ in range(3):
            await shop.call("alice", cost=2 * DOLLAR)
        await shop.call("bob", model=HOSTILE, cost=DOLLAR)
        await shop.call("bob", model="模型-大きい-🙂", status=500, error="server_error", cost=0)
        await shop.call("carol", settle=False)
        shop.refused("bob")
    subprocess.run([LLMCTL, "limit", "set", "--group", "sales", "--cost", "8", "--per", "month"], check=True)
    return empty


class Terminal:
    """A command in a terminal of its own, as people have it."""

    def __init__(self, columns: int, lines: int, *args: str) -> None:
        self._main, side = pty.openpty()
        self.resize(columns, lines)
        self.before = termios.tcgetattr(side)
        self.process = subprocess.Popen(
            [LLMCTL, *args],
            stdin=side,
            stdout=side,
            stderr=side,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            # COLUMNS and LINES, which a test runner may set, would count for more than the terminal.
            env={
                **{name: os.environ[name] for name in os.environ.keys() - {"COLUMNS", "LINES"}},
                "TERM": "xterm-256color",
            },
        )
        self._side = side
        self.printed = ""

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._main, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, keys: str) -> None:
        os.write(self._main, keys.encode())

    def read_until(self, text: str) -> None:
        """Reads on until this text came, after what was read before."""
        begin, deadline_s = len(self.printed), time.monotonic() + WAIT_S
        while text not in self.printed[begin:]:
            assert time.monotonic() < deadline_s, self.printed
            ready, _, _ = select.select([self._main], [], [], 0.1)
            if ready:
                self.printed += os.read(self._main, 65_536).decode()

    def frame(self) -> list[str]:
        """The last one that was drawn."""
        *_, last = self.printed.split("\x1b[H")
        return [ESCAPE.sub("", line) for line in last.split("\r\n")]

    def shown(self, columns: int) -> list[str]:
        """What a terminal of so many columns makes of that frame, without wrapping: the cursor stays on the last."""
        *_, last = self.printed.split("\x1b[H")
        lines = []
        for line in last.split("\r\n"):
            row, at = [" "] * columns, 0
            for part in re.findall(rf"{ESCAPE.pattern}|.", line):
                if part in ("\x1b[K", "\x1b[J"):
                    row[at:] = " " * (columns - at)
                elif not part.startswith("\x1b"):
                    row[at : at + cells(part)] = [part, *[""] * (cells(part) - 1)]
                    at = min(at + cells(part), columns - 1)
            lines.append("".join(row).rstrip())
        return lines

    def end(self) -> int:
        code = self.process.wait(timeout=WAIT_S)
        while select.select([self._main], [], [], 0.1)[0]:
            self.printed += os.read(self._main, 65_536).decode()
        return code

    @property
    def given_back(self) -> bool:
        return self.printed.rstrip().endswith(LEAVE) and termios.tcgetattr(self._side) == self.before

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._main)
        os.close(self._side)


@pytest.fixture
def terminal(shop: Path) -> Iterator[Terminal]:
    terminal = Terminal(80, 24, "top", "--every", "0.2")
    yield terminal
    terminal.close()


def test_a_frame_fits_the_terminal_and_shows_who_what_limits_and_failures(terminal: Terminal) -> None:
    terminal.read_until("FAILURE")
    frame = terminal.frame()
    assert len(frame) <= 24
    assert max(map(cells, frame)) <= 80
    shown = "\n".join(frame)
    for text in ("USER", "alice", "SPEND/MIN", "LIMIT", "87%", "MODEL", "server_error", "1 open", "$0.01 held"):
        assert text in shown, (text, shown)
    assert "x\\x1b[31m[/bold]" in shown


def test_a_line_that_fills_the_terminal_keeps_its_last_character(terminal: Terminal) -> None:
    terminal.read_until("FAILURE")
    terminal.resize(40, 24)
    deadline_s = time.monotonic() + WAIT_S
    while max(map(cells, terminal.frame())) != 40:  # one of the old size may have been under way
        assert time.monotonic() < deadline_s, terminal.frame()
        terminal.read_until(END_FRAME)
    assert terminal.shown(40) == [line.rstrip() for line in terminal.frame()]


def test_another_size_is_drawn_at_once(terminal: Terminal) -> None:
    terminal.read_until("FAILURE")
    for columns, lines in ((60, 20), (200, 12), (40, 10)):
        terminal.resize(columns, lines)
        deadline_s = time.monotonic() + WAIT_S
        while not fits(terminal.frame(), columns, lines):  # one of the old size may have been under way
            assert time.monotonic() < deadline_s, terminal.frame()
            terminal.read_until(END_FRAME)
        assert "Calls" in "".join(terminal.frame())


def fits(frame: list[str], columns: int, lines: int) -> bool:
    return len(frame) <= lines and max(map(cells, frame)) <= columns


def test_the_screen_is_never_cleared_between_frames(terminal: Terminal) -> None:
    terminal.read_until("FAILURE")
    time.sleep(1.5)  # the clock in the title changes
    terminal.press("q")
    terminal.end()
    assert terminal.printed.count("\x1b[H") > 1
    assert "\x1b[2J" not in terminal.printed


@pytest.mark.parametrize(
    ("how", "code"),
    [("q", 0), ("\x1b", 0), ("\x03", 130), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGHUP, -signal.SIGHUP)],
)
def test_however_it_ends_the_terminal_is_given_back(terminal: Terminal, how: str | int, code: int) -> None:
    terminal.read_until("FAILURE")
    assert ENTER in terminal.printed
    if isinstance(how, str):
        terminal.press(how)
    else:
        terminal.process.send_signal(how)
    assert terminal.end() == code
    assert terminal.given_back


def test_while_it_is_stopped_the_shell_has_its_terminal(terminal: Terminal) -> None:
    terminal.read_until("FAILURE")
    terminal.process.send_signal(signal.SIGTSTP)
    terminal.read_until(LEAVE)
    os.waitid(os.P_PID, terminal.process.pid, os.WSTOPPED | os.WNOWAIT)
    terminal.process.send_signal(signal.SIGCONT)
    terminal.read_until(ENTER)
    terminal.read_until("FAILURE")
    terminal.press("q")
    assert terminal.end() == 0
    assert terminal.given_back


def test_an_error_while_it_runs_is_told_on_a_clean_terminal(terminal: Terminal, shop: Path) -> None:
    terminal.read_until("FAILURE")
    (shop / "llmctl.db").unlink()
    terminal.read_until("error: no database llmctl.db")
    assert terminal.end() == 1
    assert terminal.printed.index(LEAVE) < terminal.printed.index("error:")


def test_in_a_pipe_it_looks_once(shop: Path) -> None:
    done = subprocess.run([LLMCTL, "top"], capture_output=True, text=True, timeout=WAIT_S, check=True)
    assert "\x1b" not in done.stdout
    assert "alice" in done.stdout


def test_as_json_it_is_one_object(cli: Cli, shop: Path) -> None:
    cli.now_s = int(time.time())
    now = cli.json("top", "--last", "10m")
    assert (now["calls"], now["failed"], now["refused"], now["open_calls"]) == (6, 1, 1, 1)
    assert now["cost_usd"] == "7.000000000"
    assert [(user["user"], user["calls"]) for user in now["users"]] == [("alice", 3), ("bob", 2), ("carol", 1)]
    (limit,) = now["limits"]
    assert (limit["used_percent"], limit["amount"], limit["spent"]) == (87, "8.000000000", "7.000000000")
    assert Decimal(limit["left"]) == 1 - Decimal(limit["held"])
    assert {failure["error"] for failure in now["failures"]} == {"server_error", "model_not_allowed"}


@pytest.mark.parametrize("args", [["--last", "2d"], ["--last", "x"], ["--every", "0"], ["--every", "nan"]])
def test_what_it_cannot_do_is_refused(cli: Cli, args: list[str]) -> None:
    assert cli("top", *args, code=2).err.count("\n") == 1


def test_status_tells_what_is_near_its_end(cli: Cli, shop: Path) -> None:
    cli.now_s = int(time.time())
    now = cli.json("status")
    assert (now["gateway"], now["open_calls"], now["today"]["calls"]) == ("stopped", 1, 5)
    assert [near["used_percent"] for near in now["limits_near"]] == [87]
    shown = cli("status").out
    assert "Gateway   not running: llmctl serve" in shown
    assert "87% of $8.00/month, sales" in shown


def test_status_sees_a_process_that_serves(cli: Cli, shop: Path) -> None:
    owner = owners.Owner.claim(shop / "llmctl.db")
    try:
        now = json.loads(cli("status", "-o", "json").out)
        assert (now["gateway"], now["workers"]) == ("not ready", 1)
        assert "no answer" in now["reason"]
        assert now["since"] is not None
    finally:
        owner.release()
    assert cli.json("status")["gateway"] == "stopped"


async def test_another_attempt_of_a_call_is_no_call_as_in_reports(cli: Cli, empty: Path) -> None:
    cli.now_s = int(time.time())
    async with Shop(empty / "llmctl.db", now_s=cli.now_s) as shop:
        shop.user("alice")
        nothing = {"state": "released", "cost": None, "usage": Usage(), "status": 503, "error": "overloaded"}
        await shop.call("alice", **nothing)
        await shop.call("alice")
    now = cli.json("top")
    assert (now["calls"], now["failed"], now["users"][0]["calls"], now["models"][0]["calls"]) == (1, 1, 1, 1)
    (reported,) = cli.json("usage")
    assert (reported["calls"], reported["errors"]) == (1, 1)
    assert cli.json("status")["today"]["calls"] == 1


def test_status_and_a_new_key_say_where_the_gateway_really_listens(cli: Cli, shop: Path) -> None:
    database, urls = shop / "llmctl.db", ["https://127.0.0.1:4443", "unix:/run/llmctl.sock"]
    owner = owners.Owner.claim(database)
    place = serving.Serving.claim(database, shop / "config.toml", urls=urls, admin="127.0.0.1:9")
    try:
        place.reloaded()
        now = cli.json("status")
        assert now["listen"] == "127.0.0.1:4443 and unix:/run/llmctl.sock"
        assert now["reason"] == "no answer from http://127.0.0.1:9/readyz"
        assert "https://127.0.0.1:4443 and unix:/run/llmctl.sock" in cli("status").out
        assert "OPENAI_BASE_URL=https://127.0.0.1:4443/v1\n" in cli("user", "add", "zoe").err
    finally:
        place.release()
        owner.release()
    assert cli.json("status")["listen"] == "127.0.0.1:4000"
    assert "OPENAI_BASE_URL=http://127.0.0.1:4000/v1\n" in cli("user", "add", "yves").err
