"""Alerts on their way to people: webhook, e-mail, command. Each either takes one or raises Undelivered."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import html
import json
import os
import signal
import smtplib
import ssl
import subprocess
import time
from concurrent.futures import Future
from contextlib import suppress
from email.message import EmailMessage
from email.utils import formatdate
from threading import Thread
from typing import Any

import aiohttp

from llmctl.config.alerts import Command, Email, Receiver, Webhook
from llmctl.domain.errors import ConfigError
from llmctl.domain.moment import rfc3339
from llmctl.store.alerts import Delivery

TIMEOUT_S = 15.0
MAIL_S_MAX = 120.0  # a mail server may look up who it talks to, and look for spam, before each of its replies
KILLED_S = 1.0  # for a command that was killed, to be gone
SIGNATURE = "x-llmctl-signature"
ERROR_CHARS_MAX = 200


class Undelivered(Exception):
    """The receiver did not take it; it may later."""


async def deliver(receiver: Receiver, delivery: Delivery) -> None:
    """Hands an alert over, once. Raises Undelivered."""
    try:
        if isinstance(receiver, Email):
            # It ends by itself: who no longer waits for a thread does not end it, and would not know what it did.
            await _mail(receiver, delivery)
            return
        async with asyncio.timeout(TIMEOUT_S):
            if isinstance(receiver, Webhook):
                await _post(receiver, delivery)
            else:
                await _run(receiver, delivery)
    except TimeoutError:
        raise Undelivered("no answer in time") from None
    except ConfigError as error:
        raise Undelivered(str(error)) from None
    except (aiohttp.ClientError, smtplib.SMTPException, OSError, ValueError) as error:
        # Not its text: it may hold the address, which may be a secret.
        raise Undelivered(type(error).__name__) from None


def document(delivery: Delivery) -> dict[str, object]:
    """What webhooks and commands get, as JSON."""
    alert = delivery.alert
    return {
        "id": delivery.alert_id,
        "at": rfc3339(delivery.at_s),
        "kind": alert.kind,
        "text": alert.text,
        "facts": dict(alert.facts),
    }


def signature(secret: str, at_s: int, body: bytes) -> str:
    """`t=UNIX,v1=HEX`: HMAC-SHA256 over "UNIX.BODY", so that a receiver can tell ours, and an old one."""
    digest = hmac.new(secret.encode(), b"%d.%b" % (at_s, body), hashlib.sha256).hexdigest()
    return f"t={at_s},v1={digest}"


async def _post(receiver: Webhook, delivery: Delivery) -> None:
    url = receiver.url or receiver.url_secret.read()
    content = document(delivery) if receiver.format == "json" else _slack(delivery)
    body = json.dumps(content).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "llmctl"}
    if receiver.signing:
        headers[SIGNATURE] = signature(receiver.signing.read(), int(time.time()), body)
    async with (
        aiohttp.ClientSession(trust_env=False) as session,
        session.post(url, data=body, headers=headers, allow_redirects=False) as answer,
    ):
        if not 200 <= answer.status < 300:
            raise Undelivered(f"HTTP {answer.status}")


def _slack(delivery: Delivery) -> dict[str, object]:
    """Names of end users and models stand in it: three characters would make mentions and links of them.
    Source: api.slack.com/reference/surfaces/formatting, "Escaping text"."""
    return {"text": f"llmctl: {html.escape(delivery.alert.text, quote=False)}"}


async def _mail(receiver: Email, delivery: Delivery) -> None:
    """On a thread of its own, not one of asyncio's few: uploads and counts would wait for those. The end of the daemon
    waits for none."""
    sent = Future[None]()
    sent.set_running_or_notify_cancel()  # from now on it is the thread's alone

    def run() -> None:
        try:
            _send_mail(receiver, delivery)
        except BaseException as error:
            sent.set_exception(error)
        else:
            sent.set_result(None)

    Thread(target=run, name="mail", daemon=True).start()
    await asyncio.wrap_future(sent)


def _send_mail(receiver: Email, delivery: Delivery) -> None:
    message = EmailMessage()
    message["Subject"] = f"llmctl: {delivery.alert.text}"[:ERROR_CHARS_MAX].replace("\n", " ")
    message["From"], message["To"] = receiver.sender, ", ".join(receiver.recipients)
    message["Date"] = formatdate(delivery.at_s)
    message["Message-ID"] = f"<alert-{delivery.alert_id}-{delivery.at_s}@{receiver.sender.rpartition('@')[2]}>"
    message.set_content(f"{delivery.alert.text}\n\n{json.dumps(document(delivery), indent=2)}\n")
    context = ssl.create_default_context()
    if receiver.tls == "tls":
        server: _Dialogue = _TlsDialogue(receiver.host, receiver.port, timeout=TIMEOUT_S, context=context)
    else:
        server = _Dialogue(receiver.host, receiver.port, timeout=TIMEOUT_S)
    try:
        if receiver.tls == "starttls":
            server.starttls(context=context)
        if receiver.user:
            server.login(receiver.user, receiver.password.read())
        server.send_message(message)
        with suppress(OSError):  # it has the mail, whatever becomes of the farewell
            server.quit()
    finally:
        server.close()


class _Dialogue(smtplib.SMTP):
    """One that ends in time as a whole: smtplib's timeout is that of each step. `timeout`: to be connected."""

    def __init__(self, *where: Any, **how: Any) -> None:
        self._ends_at_s = time.monotonic() + MAIL_S_MAX
        super().__init__(*where, **how)

    def send(self, s: Any) -> None:
        self._take_the_rest()
        super().send(s)

    def getreply(self) -> tuple[int, bytes]:
        self._take_the_rest()
        try:
            return super().getreply()
        except smtplib.SMTPServerDisconnected:
            self._take_the_rest()  # it calls that the same, if there was none
            raise

    def _take_the_rest(self) -> None:
        """The next step may take all the time that is left. Raises TimeoutError: none is."""
        left_s = self._ends_at_s - time.monotonic()
        if left_s <= 0:
            self.close()
            raise TimeoutError
        if self.sock is not None:
            self.sock.settimeout(left_s)


class _TlsDialogue(_Dialogue, smtplib.SMTP_SSL):
    """The same, encrypted from the first byte."""


async def _run(receiver: Command, delivery: Delivery) -> None:
    """The alert as JSON on its standard input, its text as the last argument."""
    process = await asyncio.create_subprocess_exec(
        *receiver.run, delivery.alert.text,
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        await process.communicate(json.dumps(document(delivery)).encode())
    except BaseException:
        with suppress(OSError, TimeoutError):  # it has just ended, or is root's by now
            os.killpg(process.pid, signal.SIGKILL)  # it leads a group of its own: with all that it started
            await asyncio.wait_for(process.wait(), KILLED_S)
        raise
    if process.returncode:
        raise Undelivered(f"ended with {process.returncode}")
