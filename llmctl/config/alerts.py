"""`[alerts]`: what is told, and to whom."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from .secret import Secret, read_secret
from .toml_table import NOTHING, Table

RUNAWAY_FACTOR = 10
RUNAWAY_USD_MIN = 5
LIMIT_PERCENTS = (50, 80, 100)


class Webhook(NamedTuple):
    url: str
    url_secret: Secret  # where the address itself is a secret (Slack's are)
    signing: Secret
    format: Literal["json", "slack"]


class Email(NamedTuple):
    host: str
    port: int
    tls: Literal["", "starttls", "tls"]
    user: str
    password: Secret
    sender: str
    recipients: tuple[str, ...]


class Command(NamedTuple):
    run: tuple[str, ...]


Receiver = Webhook | Email | Command


class Alerts(NamedTuple):
    """`receivers` by name. Without any, alerts are noted and listed all the same."""

    limit_percents: tuple[int, ...] = LIMIT_PERCENTS
    runaway_factor: int = RUNAWAY_FACTOR  # times the usual hour; 0: never
    runaway_usd_min: int = RUNAWAY_USD_MIN
    receivers: Mapping[str, Receiver] = NOTHING


def secrets(receiver: Receiver) -> tuple[Secret, ...]:
    """Those that have to be there for it."""
    return tuple(field for field in receiver if isinstance(field, Secret) and field)


def read(table: Table) -> Alerts:
    """The table `[alerts]`. Raises ConfigError."""
    percents = table.integers("limit_percents", LIMIT_PERCENTS, least=1, most=1_000)
    receivers_table = table.table("to")
    receivers = {name: _receiver(receivers_table.table(name)) for name in receivers_table.names()}
    alerts = Alerts(
        limit_percents=tuple(sorted(set(percents))),
        runaway_factor=table.integer("runaway_factor", RUNAWAY_FACTOR, most=1_000_000),
        runaway_usd_min=table.integer("runaway_usd_min", RUNAWAY_USD_MIN, most=1_000_000),
        receivers=receivers,
    )
    table.finish()
    return alerts


def _receiver(table: Table) -> Receiver:
    kind = table.choice("kind", "webhook", ("webhook", "email", "command"))
    receiver = _KINDS[kind](table)
    table.finish()
    return receiver


def _webhook(table: Table) -> Webhook:
    url = table.string("url", "")
    secret = read_secret(table, "url")
    if bool(url) == bool(secret):
        raise table.error("", "a webhook needs an address", 'write url = "https://...", or url_env or url_file')
    if url and urlsplit(url).scheme not in ("http", "https"):
        raise table.error("url", "is no address", 'write one such as "https://hooks.example.com/llmctl"')
    kind = table.choice("format", "json", ("json", "slack"))
    return Webhook(url, secret, read_secret(table, "secret"), "slack" if kind == "slack" else "json")


def _email(table: Table) -> Email:
    recipients = table.strings("recipients", ())
    sender = table.string("sender", "")
    if not recipients or not all("@" in one for one in (*recipients, sender)):
        raise table.error("", "an e-mail needs a sender and recipients", 'sender = "llmctl@x", recipients = ["a@x"]')
    tls = table.choice("tls", "", ("", "starttls", "tls"))
    return Email(
        host=table.string("host", "127.0.0.1"),
        port=table.integer("port", 25, least=1, most=65_535),
        tls="starttls" if tls == "starttls" else "tls" if tls else "",
        user=table.string("user", ""),
        password=read_secret(table, "password"),
        sender=sender,
        recipients=recipients,
    )


def _command(table: Table) -> Command:
    run = table.strings("run", ())
    if not run or not Path(run[0]).is_absolute():
        raise table.error("run", "must begin with the whole path of a program", 'run = ["/usr/local/bin/notify"]')
    return Command(run)


_KINDS: Mapping[str, Callable[[Table], Receiver]] = {"webhook": _webhook, "email": _email, "command": _command}
