"""A terminal that is drawn on as a whole, and given back as it was: at the end, on Ctrl-C, Ctrl-Z and when killed."""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Self

ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"  # the other page, no cursor, no wrapping of long lines
LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
# Terminals that know it (DEC mode 2026) show a frame at once; the others pass over it.
BEGIN_FRAME, END_FRAME = "\x1b[?2026h\x1b[H", "\x1b[?2026l"
# What an older frame left there; before a line is written, as after a full one the cursor stays on its last character.
CLEAR_LINE, CLEAR_REST = "\x1b[K", "\x1b[J"


class Killed(Exception):
    """SIGTERM or SIGHUP: unwinds to where the terminal is given back."""

    def __init__(self, signum: int) -> None:
        self.signum = signum


class Screen:
    """`with Screen() as screen:`. Frames are written in one piece, and only where they differ from the last one."""

    def __enter__(self) -> Self:
        self._keys = sys.stdin.fileno()
        self._before = termios.tcgetattr(self._keys)
        self._shown: list[str] | None = None
        self._wake_reader, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        self._handlers = {
            signal.SIGTERM: signal.signal(signal.SIGTERM, _kill),
            signal.SIGHUP: signal.signal(signal.SIGHUP, _kill),
            signal.SIGTSTP: signal.signal(signal.SIGTSTP, self._suspend),
            signal.SIGWINCH: signal.signal(signal.SIGWINCH, self._resized),
        }
        self._take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._give_back()
        for signum, handler in self._handlers.items():
            signal.signal(signum, handler)
        os.close(self._wake)
        os.close(self._wake_reader)

    @property
    def size(self) -> tuple[int, int]:
        """(columns, lines)."""
        columns, lines = shutil.get_terminal_size()
        return columns, lines

    def draw(self, lines: Sequence[str]) -> None:
        _, height = self.size
        lines = list(lines[:height])
        if lines == self._shown:
            return
        self._shown = lines
        *above, last = lines or [""]
        _write(BEGIN_FRAME + "".join(f"{CLEAR_LINE}{line}\n" for line in above) + CLEAR_REST + last + END_FRAME)

    def wait(self, seconds: float) -> str:
        """The key that was pressed meanwhile; "" if none was, or the terminal has another size now."""
        ready, _, _ = select.select([self._keys, self._wake_reader], [], [], max(0.0, seconds))
        if self._wake_reader in ready:
            os.read(self._wake_reader, 1_000)
            self._shown = None
        if self._keys not in ready:
            return ""
        pressed = os.read(self._keys, 100)
        if not pressed:
            raise Killed(signal.SIGHUP)  # the terminal is gone
        return pressed.decode("utf-8", "replace")

    def _take(self) -> None:
        tty.setcbreak(self._keys)
        _write(ENTER)
        self._shown = None

    def _give_back(self) -> None:
        with suppress(OSError, termios.error):  # the terminal is gone, and nobody sees it
            _write(LEAVE)
            termios.tcsetattr(self._keys, termios.TCSADRAIN, self._before)

    def _suspend(self, signum: int, frame: FrameType | None) -> None:
        """Ctrl-Z: the shell gets its terminal; `fg` goes on where it was."""
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()
        self._resized(signum, frame)

    def _resized(self, signum: int, frame: FrameType | None) -> None:
        with suppress(BlockingIOError):  # full: it will wake up anyway
            os.write(self._wake, b".")


def _kill(signum: int, frame: FrameType | None) -> None:
    raise Killed(signum)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
