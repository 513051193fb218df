"""What `llmctl key show` tells: a key, what it did, and where each of its secrets is used from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llmctl.domain.money import usd_exact

from . import humanize
from .key_table import key_values, state, state_text
from .render import Column, record
from .times import end_short, moment_full, moment_short, rfc3339

if TYPE_CHECKING:
    from llmctl.store.database import Tx
    from llmctl.store.keys import Key, Secret
    from llmctl.store.sightings import Sighting
    from llmctl.store.usage import Row

    from .context import App

PLACES_SHOWN_MAX = 20


@dataclass(frozen=True, slots=True)
class Place:
    """Where one secret was used from."""

    secret: Secret
    seen: Sighting


@dataclass(frozen=True, slots=True)
class Report:
    """What is known of one key."""

    key: Key
    secrets: list[Secret]
    places: list[Place]
    models: list[Row]
    since_s: int


def read(tx: Tx, run: App, key: Key, since_s: int) -> Report:
    from llmctl.store import keys, usage
    from llmctl.store.filters import Filters

    filters = Filters(since_s=since_s, until_s=run.now_s + 1, key_id=key.row_id)
    return Report(
        key, keys.secrets_of(tx, key), _places(tx, key), usage.report(tx, filters, ["model"], run.zone), since_s
    )


def old_users(tx: Tx, run: App, key: Key) -> list[str]:
    """`sk-llmctl-4mTq8Z...  10.0.4.17  curl/8  212 calls  2 min ago`: where old secrets were used from, if anywhere."""
    places = [place for place in _places(tx, key) if place.secret.state(run.now_s) == "old"]
    if not places:
        return []
    columns = [_said_calls(one) for one in _columns(run)[1:] if one.title]
    return [f"  {line}" for line in run.out.table(columns, places[:PLACES_SHOWN_MAX])[1:]]


def _said_calls(column: Column[Place]) -> Column[Place]:
    """`212 calls`: there is no heading that says what the figure is."""
    if column.name != "calls":
        return column
    return replace(column, shown=lambda place: humanize.plural(place.seen.calls, "call"))


def show(run: App, report: Report, asked: Secret | None) -> None:
    """`asked`: the secret that was read from stdin, if it was found by one."""
    from llmctl.store.usage import total

    key, now_s, sums = report.key, run.now_s, total(report.models)
    values = key_values(key, now_s) | {
        "secrets": [_secret_values(one, now_s) for one in report.secrets],
        "seen": [record(_columns(run), place) for place in report.places],
        "since": rfc3339(report.since_s),
        "calls": sums.calls,
        "cost_usd": usd_exact(sums.cost_nano_usd),
        "models": [_model_values(row) for row in report.models],
    }
    fields: list[tuple[str, str | list[str]]] = [
        ("Key", f"{key.label} ({key.id})"),
        ("State", state_text(key, now_s)),
        ("Group", key.group or ""),
        ("Begins with", key.prefix),
        ("Created", moment_full(key.created_at_s, run.zone, now_s)),
        ("Expires", _end(run, key)),
    ]
    if key.acts_for_end_users:
        fields.append(("Acts for", "end users, whom each call names"))
    if key.allow_from:
        fields.append(("Only from", key.allow_from))
    if key.revoked_at_s is not None:
        fields.append(("Revoked", moment_full(key.revoked_at_s, run.zone, now_s)))
    if key.note:
        fields.append(("Note", key.note))
    if asked is not None:
        values["found"] = _secret_values(asked, now_s)
        fields.append(("This secret", _secret_text(run, key, asked)))
    old = [_old_text(run, one) for one in report.secrets if one.state(now_s) == "old"]
    if old and state(key, now_s) == "active":
        fields.append(("Old secret" if len(old) == 1 else "Old secrets", old))
    fields.append((f"Since {moment_short(report.since_s, run.zone, now_s)}", _did(report)))
    run.out.result(values, fields)
    if run.out.format == "table" and report.places:
        run.out.line("")
        notes = []
        if len(report.places) > PLACES_SHOWN_MAX:
            notes = [f"{len(report.places) - PLACES_SHOWN_MAX} more: llmctl key show {key.id} -o json"]
        run.out.rows(_columns(run), report.places[:PLACES_SHOWN_MAX], notes=notes)
    if sums.calls:
        run.out.prose(f"\nEach call: llmctl calls --key {key.id} --since {rfc3339(report.since_s)}")


def _end(run: App, key: Key) -> str:
    end = end_short(key.expires_at_s, run.zone, run.now_s)
    return end if key.expires_at_s is None else f"{end} {run.zone.key}"


def _places(tx: Tx, key: Key) -> list[Place]:
    from llmctl.store import keys, sightings

    by_hash = {secret.hash: secret for secret in keys.secrets_of(tx, key)}
    return [Place(by_hash[seen.hash], seen) for seen in sightings.of_key(tx, key.row_id)]


def _did(report: Report) -> list[str]:
    if not report.models:
        return ["no calls"]
    return [
        f"{humanize.plural(sums.calls, 'call')} of {cells[0].text}, {humanize.usd(sums.known_cost_nano_usd)}"
        for cells, sums in ((row.cells, row.sums) for row in report.models)
    ]


def _model_values(row: Row) -> dict[str, object]:
    cost = row.sums.known_cost_nano_usd
    return {
        "model": row.cells[0].text,
        "calls": row.sums.calls,
        "cost_usd": None if cost is None else usd_exact(cost),
        "unpriced_calls": row.sums.unpriced_calls,
    }


def _old_text(run: App, secret: Secret) -> str:
    assert secret.ends_at_s is not None
    return f"{secret.prefix}... works until {moment_full(secret.ends_at_s, run.zone, run.now_s)}"


def _secret_text(run: App, key: Key, secret: Secret) -> str:
    which = {"current": "the current one", "old": "an old one"}.get(secret.state(run.now_s))
    if which and state(key, run.now_s) != "active":
        return f"{which}: it does not work, the key is {state_text(key, run.now_s)}"
    if secret.ends_at_s is None:
        return "the current one: it works"
    end = moment_full(secret.ends_at_s, run.zone, run.now_s)
    return f"an old one: it works until {end}" if secret.ends_at_s > run.now_s else f"replaced: dead since {end}"


def _secret_values(secret: Secret, now_s: int) -> dict[str, object]:
    return {
        "prefix": secret.prefix,
        "state": secret.state(now_s),
        "created_at": rfc3339(secret.created_at_s),
        "ends_at": rfc3339(secret.ends_at_s),
    }


def _columns(run: App) -> tuple[Column[Place], ...]:
    return (
        Column("secret", lambda p: p.secret.state(run.now_s), "SECRET", fixed=True),
        Column("prefix", lambda p: p.secret.prefix, "BEGINS WITH", lambda p: f"{p.secret.prefix}...", fixed=True),
        Column("address", lambda p: p.seen.address, "FROM"),
        Column("client", lambda p: p.seen.client, "CLIENT"),
        Column("calls", lambda p: p.seen.calls, "CALLS", right=True),
        Column("first_at", lambda p: rfc3339(p.seen.first_at_s)),
        Column("last_at", lambda p: rfc3339(p.seen.last_at_s), "LAST", lambda p: _last(run, p)),
    )


def _last(run: App, place: Place) -> str:
    return humanize.ago(run.now_s - place.seen.last_at_s)
