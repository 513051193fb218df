"""Alerts of a running gateway, to receivers that are real."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple, Self

import pytest

from llmctl.config import Alerts as Settings
from llmctl.config import Config
from llmctl.config.alerts import Command, Email, Receiver, Webhook
from llmctl.config.secret import Secret
from llmctl.domain.alert import Alert
from llmctl.proxy import delivery
from llmctl.proxy.alerts import GIVE_UP_S, Alerts, next_attempt_s
from llmctl.proxy.cells import Block, shared_memory
from llmctl.proxy.delivery import Undelivered, deliver
from llmctl.proxy.metrics import Metrics, by_provider
from llmctl.store import alerts as store
from llmctl.store.alerts import Delivery
from llmctl.store.booking import Closing
from llmctl.store.database import Store, create, schema_version
from tests.support.daemon import Daemon
from tests.support.faulty import FAULTS, Faulty, wait_until
from tests.support.wire import CHAT, ask, post

SIGNING = "whsec-of-ours"


class Hook:
    """A webhook that refuses the first call that it gets at /flaky, and takes all others."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.refused = 0
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/flaky" and hook.refused == 0:
                    hook.refused += 1
                    self.send_response(500)
                else:
                    hook.got.append((self.path, dict(self.headers), body))
                    self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def texts(self, path: str) -> list[str]:
        return [json.loads(body)["text"] for to, _, body in list(self.got) if to == path]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class MailBox:
    """As much SMTP as a sender needs. `pause_s`: before each reply."""

    def __init__(self, pause_s: float = 0.0, farewell: bytes = b"221 bye") -> None:
        self.messages: list[str] = []
        box = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with suppress(ConnectionError):
                    self.talk()

            def say(self, reply: bytes) -> None:
                time.sleep(pause_s)
                self.wfile.write(reply + b"\r\n")

            def talk(self) -> None:
                self.say(b"220 box")
                while line := self.rfile.readline():
                    word = line[:4].upper()
                    if word == b"DATA":
                        self.say(b"354 go on")
                        lines = []
                        while (text := self.rfile.readline()) != b".\r\n":
                            lines.append(text.decode())
                        box.messages.append("".join(lines))
                        self.say(b"250 taken")
                    elif word == b"QUIT":
                        self.say(farewell)
                        return
                    else:
                        self.say(b"250 ok")

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(scope="module")
def hook() -> Iterator[Hook]:
    hook = Hook()
    yield hook
    hook.close()


@pytest.fixture(scope="module")
def box() -> Iterator[MailBox]:
    with MailBox() as box:
        yield box


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, hook: Hook, box: MailBox) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("alerts")
    (directory / "signing").write_text(SIGNING)
    (directory / "slack").write_text(f"{hook.url}/slack")
    script = directory / "notify"
    script.write_text(f'#!/bin/sh\ncat >> {directory}/stdin\necho "$1" >> {directory}/said\n')
    script.chmod(0o755)
    alerts = f"""
        [alerts.to.hook]
        url = "{hook.url}/flaky"
        secret_file = "signing"
        [alerts.to.slack]
        url_file = "slack"
        format = "slack"
        [alerts.to.mail]
        kind = "email"
        port = {box.port}
        sender = "llmctl@example.com"
        recipients = ["admin@example.com"]
        [alerts.to.script]
        kind = "command"
        run = ["{script}"]
        [alerts.to.nobody]
        url = "http://127.0.0.1:9/"
    """
    faults = {name: FAULTS[name] for name in ("fine",)}
    with (
        Faulty(faults) as faulty,
        Daemon(directory, faulty.providers(directory), extra=alerts, args=["--workers", "2"]) as daemon,
    ):
        daemon.here("price", "set", "fine/m", "--input", "0", "--output", "10000")  # a call: $0.07
        yield daemon


def test_each_crossing_of_a_limit_reaches_every_receiver_once(gateway: Daemon, hook: Hook, box: MailBox) -> None:
    key = gateway.add_user("alice", "sales")
    gateway.here("limit", "set", "--group", "sales", "--cost", "1", "--per", "month")
    for _ in range(8):  # $0.56
        assert post(gateway.url, CHAT, ask("fine/m", max_tokens=7), key).status == 200
    assert wait_until(lambda: hook.texts("/flaky") and hook.texts("/slack") and box.messages, 40)
    expected = "50 % of limit l1 (group sales) is gone: $0.56 of $1.00 per month spent"
    assert [text.startswith(expected) for text in hook.texts("/flaky")] == [True]
    assert [text.startswith(f"llmctl: {expected}") for text in hook.texts("/slack")] == [True]
    assert hook.refused == 1  # and was asked again
    assert len(box.messages) == 1 and "Subject: llmctl: 50 % of limit l1" in box.messages[0]
    said = gateway.directory / "said"
    assert wait_until(said.exists) and said.read_text().startswith(expected)
    assert json.loads((gateway.directory / "stdin").read_text())["facts"]["limit"] == "l1"
    _, headers, body = next(one for one in hook.got if one[0] == "/flaky")
    at, _, sent = headers["x-llmctl-signature"].removeprefix("t=").partition(",v1=")
    assert sent == hmac.new(SIGNING.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    assert abs(int(at) - time.time()) < 60

    def told() -> dict[str, list[str]]:
        (row,) = [row for row in gateway.json("alert", "list") if row["kind"] == "limit"]
        return row

    assert wait_until(lambda: told()["pending"] == ["nobody"])  # each is noted once its receiver has it
    assert sorted(told()["delivered"]) == ["hook", "mail", "script", "slack"]


def test_a_model_without_a_price_is_told(gateway: Daemon, hook: Hook) -> None:
    key = gateway.add_user("bob")
    assert post(gateway.url, CHAT, ask("fine/unknown"), key).status == 200
    assert wait_until(lambda: any("fine/unknown have no price" in text for text in hook.texts("/flaky")), 20)


def test_an_admin_can_see_that_it_works(gateway: Daemon, hook: Hook) -> None:
    done = gateway.llmctl("alert", "test")
    assert "hook" in done.stderr + done.stdout
    assert wait_until(lambda: "this is a test of llmctl's alerts" in hook.texts("/flaky"), 20)
    assert "this is a test" in gateway.here("alert", "list")


async def test_a_name_that_is_not_ours_mentions_nobody_in_slack_and_is_no_link_there(hook: Hook) -> None:
    alert = Alert("limit", "k", "<!channel> <https://evil.example|click> & more")
    slack = Webhook(f"{hook.url}/escaped", Secret(), Secret(), "slack")
    await deliver(slack, Delivery(1, "slack", 0, 0, alert))
    escaped = "llmctl: &lt;!channel&gt; &lt;https://evil.example|click&gt; &amp; more"
    assert hook.texts("/escaped") == [escaped]
    await deliver(slack._replace(format="json"), Delivery(1, "slack", 0, 0, alert))
    assert hook.texts("/escaped") == [escaped, alert.text]


def test_where_nobody_is_configured_a_test_says_so(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, "")
    done = daemon.llmctl("alert", "test", check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "[alerts.to.NAME]" in done.stderr
    assert "Nothing was told." in daemon.here("alert", "list")


def test_where_no_gateway_runs_a_test_says_that_it_waits(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, "", extra='[alerts.to.pager]\nurl = "http://127.0.0.1:9/"')
    assert daemon.here("alert", "test").startswith("No gateway runs: pager will be told when one does (llmctl serve).")
    assert daemon.json("alert", "test") == {"receivers": ["pager"], "gateway_runs": False}
    assert daemon.json("alert", "list")[0]["pending"] == ["pager"]


def mail_to(port: int) -> Email:
    return Email("127.0.0.1", port, "", "", Secret(), "llmctl@example.com", ("admin@example.com",))


class Told(NamedTuple):
    """A database with alerts, and who is told of them."""

    alerts: Alerts
    config: Config
    database: Store

    async def reaches(self, receiver: str, count: int) -> bool:
        """Whether so many alerts get there within some seconds."""
        for _ in range(100):
            with self.database.read() as tx:
                if sum(receiver in told.delivered for told in store.listing(tx, most=99)) == count:
                    return True
            await asyncio.sleep(0.1)
        return False


Telling = Callable[[dict[str, Receiver], list[str]], Told]
TOUCH = Command(("/usr/bin/touch",))  # the file that the alert names


@pytest.fixture
def telling(tmp_path: Path) -> Iterator[Telling]:
    create(tmp_path / "llmctl.db")
    database = Store(tmp_path / "llmctl.db")

    def tell(receivers: dict[str, Receiver], texts: list[str]) -> Told:
        config = Config(tmp_path / "config.toml", tmp_path / "llmctl.db", alerts=Settings(receivers=receivers))
        with database.write() as tx:
            store.add(tx, [Alert("test", text, text) for text in texts], list(receivers), int(time.time()))
        return Told(Alerts(config, dict), config, database)

    yield tell
    database.close()


async def test_failures_of_a_provider_are_told_once_whichever_workers_saw_them(
    telling: Telling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmctl.proxy.alerts.PROVIDERS_EVERY_S", 0.0)
    memory = shared_memory(4)
    told = telling({}, [])
    alerts = Alerts(told.config, partial(by_provider, memory))
    for block in memory:  # in each too few to say anything
        worker = Metrics(Block(block), memory)
        for _ in range(5):
            worker.booked("acme", "openai", "m", Closing(1, "settled", 502, "provider_500"), known=True)
    for look in (alerts, alerts, Alerts(told.config, partial(by_provider, memory))):  # the last in a dead one's place
        await look._turn()
    with told.database.read() as tx:
        (alert,) = store.listing(tx, most=9)
    assert alert.text == "provider acme fails: 20 of 20 calls in the last 60 s"


async def test_a_receiver_that_a_reload_removes_gets_what_was_under_way(tmp_path: Path, telling: Telling) -> None:
    told = telling({"script": TOUCH}, [str(tmp_path / "told")])
    turn = asyncio.create_task(told.alerts._turn())
    await asyncio.sleep(0)  # it looks, on its thread
    told.alerts.configure(told.config._replace(alerts=Settings()))
    await turn
    assert await told.reaches("script", 1)
    assert (tmp_path / "told").exists()


async def test_a_mail_server_that_is_dead_holds_up_nobody(
    tmp_path: Path, telling: Telling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmctl.proxy.alerts.EVERY_S", 0.01)
    monkeypatch.setattr("llmctl.proxy.alerts.END_S_MAX", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        receivers = {"dead": mail_to(silent.getsockname()[1]), "script": TOUCH}
        told = telling(receivers, [str(tmp_path / str(number)) for number in range(40)])
        running = asyncio.create_task(told.alerts.run())
        assert await told.reaches("script", 40)
        threads = [thread for thread in threading.enumerate() if thread.name == "mail"]
        assert len(threads) == 1  # which is none of those that uploads and counts wait for
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    threads[0].join(5)
    assert not threads[0].is_alive()


async def test_what_cannot_be_noted_is_not_told_again(
    tmp_path: Path, telling: Telling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmctl.proxy.alerts.EVERY_S", 0.01)
    monkeypatch.setattr("llmctl.proxy.alerts.RETRY_S", 0.01)
    said = tmp_path / "said"
    breaks = f"""
import sqlite3
sqlite3.connect("{tmp_path}/llmctl.db").execute("PRAGMA user_version = 999")
open("{said}", "a").write("told ")
"""
    told = telling({"script": Command((sys.executable, "-c", breaks))}, ["once"])
    running = asyncio.create_task(told.alerts.run())
    assert await asyncio.to_thread(wait_until, said.exists)
    await asyncio.sleep(0.3)
    with told.database.write() as tx:
        tx.execute(f"PRAGMA user_version = {schema_version()}")
    assert await told.reaches("script", 1)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert said.read_text() == "told "


async def test_at_the_end_what_is_under_way_is_delivered_and_noted_and_nothing_more_is_begun(
    tmp_path: Path, telling: Telling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmctl.proxy.alerts.EVERY_S", 0.01)
    said = tmp_path / "said"
    told = telling({"script": Command(("/bin/sh", "-c", f"echo $0 >> {said}; sleep 0.3"))}, ["one", "two"])
    running = asyncio.create_task(told.alerts.run())
    assert await asyncio.to_thread(wait_until, said.exists)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    with told.database.read() as tx:
        assert {one.text for one in store.listing(tx, most=9) if one.delivered} == {"one"}
    assert said.read_text() == "one\n"


async def test_the_end_waits_no_longer_than_calls_may(telling: Telling, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmctl.proxy.alerts.EVERY_S", 0.01)
    told = telling({"script": Command(("/bin/sh", "-c", "sleep 4243"))}, ["one"])
    server = told.config.server
    hurried = server._replace(timeouts=server.timeouts._replace(shutdown_s=0.1))
    told.alerts.configure(told.config._replace(server=hurried))
    running = asyncio.create_task(told.alerts.run())
    while not told.alerts._delivering:
        await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait_for(asyncio.gather(running, return_exceptions=True), 5)
    with told.database.read() as tx:
        assert store.listing(tx, most=9)[0].pending == ("script",)


async def test_a_command_that_hangs_is_ended_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "TIMEOUT_S", 0.5)
    hangs = Command(("/bin/sh", "-c", f"sleep 4244 & echo $! > {tmp_path}/child; wait"))
    with pytest.raises(Undelivered, match="no answer in time"):
        await deliver(hangs, Delivery(1, "script", 0, 0, Alert("test", "k", "t")))
    child = int((tmp_path / "child").read_text())
    assert await asyncio.to_thread(wait_until, lambda: has_ended(child))


def has_ended(process: int) -> bool:
    """Also where nobody asks what became of it."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except FileNotFoundError:
        return True


async def test_a_mail_that_a_slow_server_takes_is_delivered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "TIMEOUT_S", 0.3)  # more than each reply takes, less than all of them
    with MailBox(pause_s=0.1, farewell=b"421 too busy to say goodbye") as box:
        await deliver(mail_to(box.port), Delivery(1, "mail", 0, 0, Alert("test", "k", "slow")))
    assert len(box.messages) == 1


async def test_a_mail_that_is_not_taken_in_time_is_given_up_before_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "MAIL_S_MAX", 0.35)
    with MailBox(pause_s=0.1) as box, pytest.raises(Undelivered, match="no answer in time"):
        await deliver(mail_to(box.port), Delivery(1, "mail", 0, 0, Alert("test", "k", "slow")))
    assert box.messages == []


def test_attempts_become_rarer_and_end_after_a_day() -> None:
    def after(attempts: int, age_s: int) -> int | None:
        delivery = Delivery(1, "hook", attempts, 0, Alert("test", "k", "t"))
        found = next_attempt_s(delivery, age_s)
        return None if found is None else found - age_s

    assert [after(attempts, 0) for attempts in range(11)] == [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600]
    assert after(99, GIVE_UP_S - 1) == 3600
    assert after(0, GIVE_UP_S) is None
