"""Where the daemon listens: its own TCP and unix sockets, or those that systemd hands over."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from llmctl.config.server import Address, Server
from llmctl.domain.errors import ConfigError

BACKLOG = 4096
ADMIN = "admin"  # FileDescriptorName= of a socket for /metrics; all others are for clients
FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
HINT = "stop what uses it, or choose another with --listen or in [server]"


@dataclass(frozen=True, slots=True)
class Sockets:
    """For each worker the sockets that it takes connections from. On a TCP address each has one of its own: the kernel
    spreads connections, none is lost with a worker. A unix socket, and what systemd hands over, is one for all."""

    clients: tuple[tuple[socket.socket, ...], ...]
    admin: socket.socket
    shared: bool
    admin_is_lent: bool = False
    path: str = ""  # of our unix socket
    file: tuple[int, ...] = ()  # and which file that is

    @property
    def addresses(self) -> list[str]:
        """Where clients connect, with the port that the kernel chose."""
        return [_name(each) for each in self.clients[0]]

    @property
    def admin_address(self) -> str:
        return _name(self.admin)

    def rest(self, number: int) -> None:
        """No new connections to this worker until it listens again: the others get them. Whoever knocked on a socket
        of its own that other processes still have open would be let in by none of them."""
        if not self.shared:
            for each in self.clients[number]:
                _refuse(each)

    def refuse_admin(self) -> None:
        """The same for the admin address: its worker is gone, others may go on with their calls. Who knocks at one that
        systemd holds waits for the next gateway; systemd gives up a socket that was shut down."""
        if not self.admin_is_lent:
            _refuse(self.admin)

    def unlink(self) -> None:
        """When all stop, not one worker. Our file alone: whoever takes our place may listen there already."""
        with suppress(FileNotFoundError):
            if self.path and _file_at(self.path) == self.file:
                Path(self.path).unlink()

    def close(self) -> None:
        for each in {*sum(self.clients, ()), self.admin}:
            each.close()


def listening(server: Server, handed_over: Iterable[tuple[str, socket.socket]] = ()) -> Sockets:
    """Raises ConfigError: an address is taken, or not ours."""
    given = list(handed_over)
    clients = tuple(_lent(each) for name, each in given if name != ADMIN)
    admins = [_lent(each) for name, each in given if name == ADMIN]
    lent = bool(admins)
    admin = admins[0] if lent else _tcp(server.admin_listen, shared=False)
    try:
        if clients:
            return Sockets((clients,) * server.workers, admin, shared=True, admin_is_lent=lent)
        if server.listen.path:
            path = server.listen.path
            one = _unix(path, server.listen_mode)
            return Sockets(((one,),) * server.workers, admin, True, lent, path=path, file=_file_at(path))
        first = _tcp(server.listen, shared=server.workers > 1)
        address = Address(server.listen.host, first.getsockname()[1])
        others = [_tcp(address, shared=True) for _ in range(server.workers - 1)]
        return Sockets(tuple((each,) for each in (first, *others)), admin, shared=False, admin_is_lent=lent)
    except BaseException:
        admin.close()
        raise


def _lent(one: socket.socket) -> socket.socket:
    """A socket of systemd's, if one can listen on it. Raises ConfigError."""
    try:
        if one.family not in FAMILIES or one.type != socket.SOCK_STREAM:
            raise OSError
        one.listen(BACKLOG)
    except OSError:  # also with Accept=yes: it is a connection
        hint = "write ListenStream= (an address or a path) and Accept=no in its .socket unit"
        raise ConfigError("a socket that systemd hands over is none to listen on", hint=hint) from None
    one.setblocking(False)
    return one


def _tcp(address: Address, *, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        found.bind((address.host, address.port))
        found.listen(BACKLOG)
    except OSError as error:
        found.close()
        raise ConfigError(f"cannot listen on {address}: {error.strerror or error}", hint=HINT) from None
    found.setblocking(False)
    return found


def _unix(path: str, mode: int) -> socket.socket:
    """A socket that was left behind by one who died is taken over; one that somebody listens on is not."""
    found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_left_behind(path):
            Path(path).unlink(missing_ok=True)
        before = os.umask(0o777)  # nobody connects before the mode is right
        try:
            found.bind(path)
        finally:
            os.umask(before)
        Path(path).chmod(mode)
        found.listen(BACKLOG)
    except OSError as error:
        found.close()
        raise ConfigError(f"cannot listen on unix:{path}: {error.strerror or error}", hint=HINT) from None
    found.setblocking(False)
    return found


def _file_at(path: str) -> tuple[int, ...]:
    """Tells one file from any that had, or will have, the same path. By its time as well: the number of a file that is
    gone is soon given to the next one."""
    status = Path(path).lstat()
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _is_left_behind(path: str) -> bool:
    try:
        if not stat.S_ISSOCK(Path(path).lstat().st_mode):
            return False
    except OSError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False


def _refuse(listening: socket.socket) -> None:
    """Once: of a socket that does not listen, Linux remembers the shutdown, and hands it on to each connection that is
    accepted when it listens again."""
    if listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        with suppress(OSError):  # nowhere but on Linux
            listening.shutdown(socket.SHUT_RDWR)


def _name(listening: socket.socket) -> str:
    name = listening.getsockname()
    if isinstance(name, bytes):  # without a file: written with an @, as systemd does
        name = "@" + name[1:].decode(errors="replace")
    return str(Address("", 0, name) if isinstance(name, str) else Address(*name[:2]))
