"""The supervisor outlives what goes wrong around it. Its workers' lives and deaths: test_lifecycle.py."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmctl.config import Config, Server
from llmctl.config.server import Address
from llmctl.proxy.reloading import BACK, FAILED, RELOAD, RELOADED, Child, Reload
from llmctl.proxy.sockets import Sockets, listening
from llmctl.proxy.supervisor import HUNG_S, Supervisor
from llmctl.proxy.systemd import Notifier
from llmctl.store.database import create
from llmctl.store.serving import Serving


@pytest.fixture
def sockets() -> Iterator[Sockets]:
    sockets = listening(Server(Address("127.0.0.1", 0), admin_listen=Address("127.0.0.1", 0)))
    yield sockets
    sockets.close()


@pytest.fixture
def one(tmp_path: Path, sockets: Sockets) -> Iterator[Supervisor]:
    create(tmp_path / "llmctl.db")
    config = Config(tmp_path / "config.toml", tmp_path / "llmctl.db")

    def renew(_: Config) -> tuple[Config, list[str]]:
        raise KeyError("a bug")

    serving = Serving.claim(config.database, config.path)
    yield Supervisor(config, renew=renew, work=lambda *_: 0, sockets=sockets, notifier=Notifier(), serving=serving)
    serving.release()


@pytest.mark.parametrize("lacking", ["fork", "socketpair"])
def test_a_worker_that_cannot_be_started_is_started_later(
    one: Supervisor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, lacking: str
) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os if lacking == "fork" else socket, lacking, fails)
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    one._start(3)
    assert list(one._due_at_s) == [3] and not one._workers
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask
    assert "worker 3 cannot be started" in caplog.text


def test_a_worker_that_hangs_is_killed_and_started_anew(one: Supervisor, caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    now_s = time.monotonic()
    with theirs, subprocess.Popen(["sleep", "60"]) as child:
        worker = Child(2, child.pid, ours, now_s - HUNG_S - 1)
        one._workers[child.pid] = worker
        one._end_hung()  # one that is not ready yet recovers what others left open, which takes its time
        assert child.poll() is None
        worker.ready = True
        one._awake_at_s = now_s - HUNG_S
        one._end_hung()  # nobody was heard because the whole machine slept
        assert child.poll() is None and worker.heard_at_s >= now_s
        worker.heard_at_s = now_s - HUNG_S - 1
        one._end_hung()
        assert child.wait(5) == -signal.SIGKILL
    assert "worker 2 has said nothing for 20 seconds" in caplog.text
    one._workers.pop(child.pid)
    one._on_death(worker, -signal.SIGKILL)
    assert list(one._due_at_s) == [2]


def test_an_error_that_is_cut_inside_a_character_is_read(one: Supervisor) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.send(FAILED + "no provider münchen".encode()[: len("no provider m") + 1])
        one._on_message(Child(0, os.getpid(), ours, 0.0))
    assert one._reloading.errors == ["no provider m\ufffd"]


def test_a_reload_that_fails_in_a_way_that_nobody_expected_is_told(
    one: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    one._reload()
    assert not one._reloading.pending
    assert "the configuration of before stays: the reload failed: this is a bug" in caplog.text


def test_a_worker_that_cannot_go_back_after_a_reload_makes_room_for_one_that_has_the_configuration_of_before(
    one: Supervisor, tmp_path: Path
) -> None:
    before, fresh = one._reloading.config, Config(tmp_path / "fresh.toml", tmp_path / "llmctl.db")
    reload = Reload(before, lambda _: (fresh, []), one._serving)
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
    with subprocess.Popen(["sleep", "60"]) as process:
        workers = [Child(number, process.pid, pair[0], 0.0) for number, pair in enumerate(pairs)]
        reload.begin(workers)
        assert [pair[1].recv(100) for pair in pairs] == [RELOAD, RELOAD]
        reload.on_answer(workers[0], RELOADED)
        assert not reload.ends(workers)
        reload.on_answer(workers[1], FAILED + b"no lock")
        assert not reload.ends(workers)
        assert pairs[0][1].recv(100) == BACK
        reload.on_answer(workers[0], FAILED + b"still no lock")
        assert reload.ends(workers)
        assert process.wait(5) == -signal.SIGTERM
    assert (reload.config, reload.errors[0]) == (before, "no lock")
    for ours, theirs in pairs:
        ours.close()
        theirs.close()
