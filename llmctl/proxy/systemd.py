"""What systemd wants to know, and what it hands over: sd_notify(3), sd_listen_fds(3). Plain sockets, no library."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, MutableMapping
from contextlib import suppress

FIRST_FD = 3  # SD_LISTEN_FDS_START


class Notifier:
    """Says where we are; nothing where nobody asked. Workers do not speak: NotifyAccess=main."""

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        """Takes what is ours out of the environment, so that no child speaks in our name."""
        self._address = environ.pop("NOTIFY_SOCKET", "")
        micros, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        mine = self._address and pid in ("", str(os.getpid()))
        self.watchdog_s = int(micros) / 1e6 if mine and micros.isdigit() else None  # without a word, we are restarted

    def ready(self, status: str) -> None:
        self._send("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """For Type=notify-reload too, which wants to know since when."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1", "STATUS=Waiting for open calls")

    def alive(self) -> None:
        """For the watchdog, where there is one."""
        if self.watchdog_s is not None:
            self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, suppress(OSError):
            notify.sendto("\n".join(lines).encode(), address)


def handed_over(environ: MutableMapping[str, str] = os.environ) -> Iterator[tuple[str, socket.socket]]:
    """The sockets that systemd listens on for us, with their names (FileDescriptorName=)."""
    count, pid = environ.pop("LISTEN_FDS", ""), environ.pop("LISTEN_PID", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()) or not count.isdigit():
        return
    for number in range(int(count)):
        listening = socket.socket(fileno=FIRST_FD + number)
        listening.set_inheritable(False)
        yield names[number] if number < len(names) else "", listening
