"""Where it listens: unix sockets, sockets of systemd, TLS; and what systemd is told."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest

from llmctl.config.server import Address, Server
from llmctl.domain.errors import ConfigError
from llmctl.proxy.sockets import listening
from llmctl.proxy.supervisor import BEAT_S
from tests.support.daemon import LLMCTL, Daemon
from tests.support.faulty import FAULTS, Faulty, wait_until
from tests.support.wire import CHAT, ask, request_bytes

from .processes import kill_all, refuses_to_start, workers_of

WORKERS = pytest.mark.parametrize("workers", [1, 2], ids=["one-worker", "two-workers"])


@pytest.fixture(scope="module")
def faulty() -> Iterator[Faulty]:
    with Faulty({name: FAULTS[name] for name in ("fine", "slow")}) as running:
        yield running


@pytest.fixture
def made(tmp_path: Path, faulty: Faulty) -> Iterator[list[Daemon]]:
    daemons: list[Daemon] = []
    yield daemons
    for daemon in daemons:
        if hasattr(daemon, "process") and daemon.process.poll() is None:
            kill_all(daemon)


@pytest.fixture
def daemon(tmp_path: Path, faulty: Faulty, made: list[Daemon]) -> Daemon:
    daemon = Daemon(tmp_path, faulty.providers(tmp_path))
    made.append(daemon)
    return daemon


def use(daemon: Daemon, line: str) -> None:
    text = daemon.config.read_text()
    daemon.config.write_text(text.replace('listen = "127.0.0.1:0"', line, 1))


def start_at(daemon: Daemon, path: Path, workers: int = 1, more: str = "") -> str:
    """At a unix socket. Returns the key of a user."""
    use(daemon, f'listen = "unix:{path}"\n{more}')
    daemon.args = ["--workers", str(workers)]
    key = daemon.add_user("alice")
    daemon.start()
    return key


def tcp(workers: int) -> Server:
    return Server(Address("127.0.0.1", 0), admin_listen=Address("127.0.0.1", 0), workers=workers)


def test_a_socket_that_rested_however_often_hears_its_clients_once_it_listens_again() -> None:
    """A worker that fails to start again and again rests each time."""
    sockets = listening(tcp(2))
    place = sockets.clients[1][0]
    sockets.clients[0][0].close()  # so that all come to the other one
    for _ in range(3):
        sockets.rest(1)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(place.getsockname())
    place.listen()
    with socket.create_connection(place.getsockname()) as client:
        served, _ = place.accept()
        with served:
            served.settimeout(5)
            client.sendall(b"a call")
            assert served.recv(100) == b"a call"
            served.sendall(b"its answer")
            assert client.recv(100) == b"its answer"
    sockets.close()


# ---- unix sockets ----


def over_unix(path: Path, key: str, forwarded: str = "") -> int:
    with socket.socket(socket.AF_UNIX) as wire:
        wire.settimeout(10)
        wire.connect(str(path))
        more = [f"X-Forwarded-For: {forwarded}"] if forwarded else []
        wire.sendall(request_bytes(CHAT, ask("fine/m"), key, *more))
        answer = http.client.HTTPResponse(wire)
        answer.begin()
        answer.read()
        return answer.status


@WORKERS
def test_a_unix_socket_serves_those_who_may_open_it(daemon: Daemon, tmp_path: Path, workers: int) -> None:
    path = tmp_path / "s.sock"
    key = start_at(daemon, path, workers, 'listen_mode = "0600"\ntrusted_proxies = ["unix"]')
    assert daemon.url == f"unix:{path}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [over_unix(path, key) for _ in range(5)] == [200] * 5
    daemon.here("key", "set", "alice", "--allow-from", "192.0.2.0/24")
    assert (over_unix(path, key), over_unix(path, key, "192.0.2.9"), over_unix(path, key, "8.8.8.8")) == (403, 200, 403)
    status, said = refuses_to_start(daemon)  # it is in use
    assert (status, said.count("\n")) == (78, 1)
    assert str(path) in said
    assert over_unix(path, key, "192.0.2.9") == 200
    assert daemon.stop() == 0
    assert not path.exists()


def test_one_worker_that_is_told_to_stop_leaves_the_socket_to_the_others(daemon: Daemon, tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    key = start_at(daemon, path, 2)
    victim = workers_of(daemon)[0]
    os.kill(victim, signal.SIGTERM)
    assert wait_until(lambda: victim not in workers_of(daemon))
    assert over_unix(path, key) == 200
    assert daemon.stop() == 0
    assert not path.exists()


def test_workers_whose_supervisor_died_make_room_for_its_successor(daemon: Daemon, tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    start_at(daemon, path, 2)
    workers = workers_of(daemon)
    daemon.process.send_signal(signal.SIGSTOP)
    time.sleep(BEAT_S + 0.5)  # what they said meanwhile is unread when it dies
    daemon.process.kill()
    assert wait_until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in workers), 10)
    assert not path.exists()
    daemon.kill()


def test_a_unix_socket_that_the_dead_left_is_taken_over(daemon: Daemon, tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    key = start_at(daemon, path)
    kill_all(daemon)
    assert path.exists()
    daemon.start()
    assert over_unix(path, key) == 200
    assert daemon.stop() == 0


def test_one_that_stops_leaves_the_socket_of_its_successor_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    server = Server(listen=Address("", 0, str(path)), admin_listen=Address("127.0.0.1", 0))
    first = listening(server)
    first.unlink()  # it is told to stop
    first.close()
    second = listening(server)
    first.unlink()  # its last call has ended
    assert path.exists()
    second.unlink()
    second.close()
    assert not path.exists()


def test_a_unix_socket_never_replaces_a_file(daemon: Daemon, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    use(daemon, f'listen = "unix:{path}"')
    assert refuses_to_start(daemon)[0] == 78
    assert path.read_text() == "data"


# ---- systemd ----


class Systemd:
    """What listens at $NOTIFY_SOCKET."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._socket.settimeout(10)
        self.said: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def until(self, word: str) -> list[str]:
        """All that is said until a message begins so."""
        said: list[str] = []
        while not said or not said[-1].startswith(word):
            said.append(self._socket.recv(4096).decode())
        return said


@WORKERS
def test_systemd_is_told_of_readiness_reloads_and_stops(daemon: Daemon, tmp_path: Path, workers: int) -> None:
    daemon.args = ["--workers", str(workers)]
    with Systemd(tmp_path) as systemd:
        daemon.environ["NOTIFY_SOCKET"] = str(systemd.path)
        daemon.start()
        assert len(systemd.until("READY=1")) == 1
        os.kill(daemon.process.pid, signal.SIGHUP)
        reloading, *_, ready = systemd.until("READY=1")
        assert reloading.startswith("RELOADING=1\nMONOTONIC_USEC=")
        assert "STATUS=" in ready
        daemon.config.write_text(daemon.config.read_text() + "broken")
        os.kill(daemon.process.pid, signal.SIGHUP)
        assert systemd.until("READY=1")[0].startswith("RELOADING=1")  # the one of before stays: it serves
        assert daemon.stop() == 0
        systemd.until("STOPPING=1")


@WORKERS
def test_the_watchdog_hears_of_it_while_the_process_lives_that_it_asked(
    daemon: Daemon, tmp_path: Path, workers: int
) -> None:
    """A worker that hangs is its supervisor's affair: the others go on."""
    daemon.args = ["--workers", str(workers)]
    with Systemd(tmp_path) as systemd:
        daemon.environ |= {"NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": "800000"}
        daemon.start()
        for _ in range(4):
            systemd.until("WATCHDOG=1")
        if workers > 1:
            hung = workers_of(daemon)[0]
            os.kill(hung, signal.SIGSTOP)
            for _ in range(8):
                systemd.until("WATCHDOG=1")
            os.kill(hung, signal.SIGCONT)
        os.kill(daemon.process.pid, signal.SIGSTOP)
        try:
            systemd._socket.settimeout(1.0)
            with pytest.raises(TimeoutError):
                for _ in range(20):
                    systemd.until("WATCHDOG=1")
        finally:
            os.kill(daemon.process.pid, signal.SIGCONT)
        systemd._socket.settimeout(10)
        systemd.until("WATCHDOG=1")
        assert daemon.stop() == 0


def test_a_database_that_is_not_there_is_never_ready(daemon: Daemon, tmp_path: Path) -> None:
    daemon.database.rename(tmp_path / "elsewhere")
    with Systemd(tmp_path) as systemd:
        assert refuses_to_start(daemon, NOTIFY_SOCKET=str(systemd.path))[0] == 1
        systemd._socket.settimeout(0.1)
        with pytest.raises(TimeoutError):
            systemd.until("READY=1")


AS_SYSTEMD = """
import fcntl, os, sys
clients, admin, *command = sys.argv[1:]
kept = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in (clients, admin)]
for fd, source in zip((3, 4), kept):
    os.dup2(source, fd)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2", LISTEN_FDNAMES="clients:admin")
os.execv(command[0], command)
"""


@WORKERS
def test_sockets_that_systemd_holds_are_served_and_stay_open(daemon: Daemon, workers: int) -> None:
    key = daemon.add_user("alice")
    with socket.create_server(("127.0.0.1", 0)) as clients, socket.create_server(("127.0.0.1", 0)) as admin:
        url, admin_url = (f"127.0.0.1:{each.getsockname()[1]}" for each in (clients, admin))
        fds = (clients.fileno(), admin.fileno())

        def started() -> subprocess.Popen[str]:
            return subprocess.Popen(
                [sys.executable, "-c", AS_SYSTEMD, *map(str, fds), str(LLMCTL), "serve", "--workers", str(workers)],
                env=daemon.environ,
                cwd=daemon.directory,
                pass_fds=fds,
                text=True,
            )

        def status() -> int:
            wire = http.client.HTTPConnection(url, timeout=20)
            try:
                wire.request("POST", CHAT, '{"model": "fine/m", "messages": []}', {"Authorization": f"Bearer {key}"})
                return wire.getresponse().status
            finally:
                wire.close()

        daemon.process = started()
        try:
            assert {status() for _ in range(6)} == {200}
            daemon.admin_url = f"http://{admin_url}"
            assert daemon.get("/readyz", admin=True)[0] == 200
            daemon.process.send_signal(signal.SIGTERM)
            assert daemon.process.wait(20) == 0
            daemon.process = started()
            assert status() == 200  # who knocked while nobody was there is let in
        finally:
            daemon.process.send_signal(signal.SIGTERM)
            assert daemon.process.wait(20) == 0


def test_a_socket_of_systemd_s_that_has_no_file_is_named_as_systemd_does() -> None:
    name = f"llmctl-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0{name}")
        sockets = listening(tcp(1), [("", abstract)])
        assert sockets.addresses == [f"unix:@{name}"]
        sockets.close()


def test_a_socket_of_systemd_s_on_which_nobody_can_listen_is_said() -> None:
    connected, other = socket.socketpair()
    udp = socket.socket(type=socket.SOCK_DGRAM)
    with connected, other, udp:
        for name, one in (("", udp), ("", connected), ("admin", udp)):
            with pytest.raises(ConfigError, match="a socket that systemd hands over is none to listen on") as refused:
                listening(tcp(1), [(name, one)])
            assert "Accept=no" in refused.value.hint


def test_the_admin_s_socket_that_systemd_holds_is_not_shut_down() -> None:
    """systemd would give it up."""
    with socket.create_server(("127.0.0.1", 0)) as admin:
        sockets = listening(tcp(1), [("admin", admin)])
        sockets.refuse_admin()
        assert admin.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        sockets.close()


def test_a_credential_that_systemd_loaded_stands_in_for_the_variable(
    daemon: Daemon, faulty: Faulty, tmp_path: Path
) -> None:
    directory = tmp_path / "credentials"
    directory.mkdir()
    (directory / "FINE_KEY").write_text("sk-provider-LOADED\n")
    text = daemon.config.read_text()
    daemon.config.write_text(text.replace('credential_file = "credential"', 'credential_env = "FINE_KEY"'))
    assert "FINE_KEY" in refuses_to_start(daemon)[1]
    daemon.environ["CREDENTIALS_DIRECTORY"] = str(directory)
    key = daemon.add_user("alice")
    faulty.clear()
    with daemon:
        assert daemon.send(CHAT, ask("fine/m"), key=key).status == 200
    assert faulty.last("fine").headers["authorization"] == "Bearer sk-provider-LOADED"


# ---- TLS ----

TLS = '[server.tls]\ncertificate = "certificate.pem"\nkey = "key.pem"\n'


def certificate(directory: Path, name: str) -> None:
    """A new key and a certificate for it, in the place of the old ones."""
    subprocess.run(
        [
            *"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2".split(),
            *("-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", directory / "new.key", "-out", directory / "new.pem"),
        ],
        check=True,
        capture_output=True,
    )
    (directory / "new.key").rename(directory / "key.pem")
    (directory / "new.pem").rename(directory / "certificate.pem")


def served(daemon: Daemon, *, maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    """The certificate that a client is shown."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")  # what only the server refuses
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = maximum
    host, _, port = daemon.url.removeprefix("https://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as raw, context.wrap_socket(raw) as wire:
        found = wire.getpeercert(binary_form=True)
        assert found
        return found


@WORKERS
def test_tls_by_file_and_a_new_certificate_without_a_restart(daemon: Daemon, tmp_path: Path, workers: int) -> None:
    certificate(tmp_path, "first")
    daemon.config.write_text(daemon.config.read_text() + TLS)
    daemon.args = ["--workers", str(workers)]
    key = daemon.add_user("alice")
    daemon.start()
    assert daemon.url.startswith("https://")
    trusting = ssl.create_default_context(cafile=str(tmp_path / "certificate.pem"))
    wire = http.client.HTTPSConnection(daemon.url.removeprefix("https://"), context=trusting, timeout=10)
    body, headers = '{"model": "slow/m", "messages": [], "stream": true}', {"Authorization": f"Bearer {key}"}
    wire.request("POST", CHAT, body, headers)
    answer = wire.getresponse()
    assert (answer.status, answer.read().rstrip().endswith(b"[DONE]")) == (200, True)
    wire.close()
    first = served(daemon)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        served(daemon, maximum=ssl.TLSVersion.TLSv1_1)

    (tmp_path / "certificate.pem").write_text("half written")
    assert daemon.llmctl("reload", check=False).returncode == 1
    assert served(daemon) == first
    certificate(tmp_path, "second")
    second = ssl.PEM_cert_to_DER_cert((tmp_path / "certificate.pem").read_text())
    assert wait_until(lambda: {served(daemon) for _ in range(4)} == {second}, 12)
    certificate(tmp_path, "third")
    assert daemon.llmctl("reload").returncode == 0
    assert {served(daemon) for _ in range(4)} == {ssl.PEM_cert_to_DER_cert((tmp_path / "certificate.pem").read_text())}
    assert daemon.stop() == 0
    assert "Traceback" not in "".join(daemon.log)


def test_a_certificate_that_is_not_there_or_not_its_key_prevents_a_start(daemon: Daemon, tmp_path: Path) -> None:
    daemon.config.write_text(daemon.config.read_text() + TLS)
    status, said = refuses_to_start(daemon)
    assert (status, said.count("\n")) == (78, 1)
    certificate(tmp_path, "first")
    (tmp_path / "key.pem").rename(tmp_path / "old.pem")
    certificate(tmp_path, "second")
    (tmp_path / "old.pem").rename(tmp_path / "key.pem")
    status, said = refuses_to_start(daemon)
    assert (status, said.count("\n")) == (78, 1)
    assert "certificate.pem" in said


def test_a_client_that_never_shakes_hands_counts_and_is_dropped(daemon: Daemon, tmp_path: Path) -> None:
    certificate(tmp_path, "first")
    use(daemon, 'listen = "127.0.0.1:0"\nconnections_max = 5')
    text = daemon.config.read_text() + TLS
    daemon.config.write_text(text + "[server.timeouts]\nclient_header_s = 1.5\n")
    daemon.start()
    host, _, port = daemon.url.removeprefix("https://").partition(":")
    began_s = time.monotonic()
    with ExitStack() as opened:
        silent = [opened.enter_context(socket.create_connection((host, int(port)), timeout=10)) for _ in range(30)]
        assert [one.recv(100) for one in silent[5:]] == [b""] * 25
        silent[0].setblocking(False)
        with pytest.raises(BlockingIOError):
            silent[0].recv(100)
        silent[0].settimeout(10)
        assert [one.recv(100) for one in silent[:5]] == [b""] * 5
    assert time.monotonic() - began_s < 5
    for _ in range(10):
        with socket.create_connection((host, int(port)), timeout=10) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert b"HTTP" not in plain.recv(100)
    for _ in range(10):
        assert served(daemon)  # of none that failed anything is left that counts
    assert daemon.stop() == 0
    assert "Traceback" not in "".join(daemon.log)
