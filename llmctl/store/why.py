"""Why a call passed or not, from what is kept: of a refused one as it was decided, of others worked out anew."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from llmctl.domain.errors import NotFound, Refused
from llmctl.domain.limit import Limit, Standing
from llmctl.domain.price import Price
from llmctl.domain.why import Looked, looked
from llmctl.domain.window import BUCKET_S

from . import balances, calls, deployments, facts, ids, limits, prices, repricing, rollups, standings
from .balances import Place
from .calls import Call, CallFilters
from .facts import FAR_S, HELD, SETTLED, SETTLED_OF_CALL
from .repricing import Repriced
from .sql import as_json, run

OPEN_S_MAX = 3_600  # a call open longer than this counts as settled for those that began later
MESSAGE_CHARS_MAX = 500


@dataclass(frozen=True, slots=True)
class Why:
    """A call and the limits that were looked at for it."""

    call: Call
    limits: tuple[Looked, ...]
    bound: str  # the limit that refused it, l3
    message: str  # what a refused call was told
    held_input_tokens: int
    held_output_tokens: int
    price: Price | None = None  # that priced it, as it was; or made our own figure, where the provider stated the money
    raw_usage: str = ""  # the provider's own usage object; "" if there was none
    repriced: tuple[Repriced, ...] = ()  # the oldest first
    attempts: tuple[Call, ...] = ()  # of the same request, this one too; () where there was one


def row_of(call_id: int, refused: Refused) -> tuple[int, str, str, str]:
    """What is kept of a refusal, as a row of `refusals`."""
    message = refused.message[:MESSAGE_CHARS_MAX].encode(errors="replace").decode()
    bound = str(refused.facts.get("limit", ""))
    return call_id, message, bound, as_json([asdict(one) for one in refused.looked])


def of_call(tx: sqlite3.Connection, reference: str, *, default_zone: str) -> Why:
    """The call `c_...`. Raises NotFound, BadInput."""
    call_id = ids.parsed(reference)
    found = calls.by_ids(tx, CallFilters(), [call_id])
    if not found:
        raise NotFound(
            f"no call {reference}",
            hint="it was pruned, or it was one refusal of many in a minute: those are only counted",
        )
    call = found[0]
    held_input, held_output, price_id = tx.execute(
        "SELECT held_input_tokens, held_output_tokens, coalesce(price_id, own_price_id) FROM calls WHERE id = ?",
        (call_id,),
    ).fetchone()
    if call.state == "refused":
        row = tx.execute("SELECT message, bound, looked FROM refusals WHERE call_id = ?", (call_id,)).fetchone()
        message, bound, text = row or ("", "", "[]")
        return Why(call, tuple(Looked(**one) for one in json.loads(text)), bound, message, 0, 0)
    attempts = tuple(calls.attempts_of(tx, call))
    return Why(
        call,
        _worked_out(tx, call, default_zone),
        "",
        "",
        held_input,
        held_output,
        prices.get(tx, price_id) if price_id is not None else None,
        calls.raw_usage_of(tx, call_id),
        repricing.history(tx, call_id),
        attempts if len(attempts) > 1 else (),
    )


def now(
    tx: sqlite3.Connection,
    applying: Sequence[Limit],
    *,
    user_id: int,
    end_user: str,
    provider: str,
    model: str,
    sold_as: str,
    at_s: int,
) -> list[Standing]:
    """How the limits stand that a call of this user would count in now."""
    row = tx.execute("SELECT id FROM names WHERE name = ?", (end_user,)).fetchone() if end_user else None
    member_id = row[0] if row else -1 if end_user else 0
    wanted = balances.places(
        applying,
        user_id=user_id,
        end_user_id=member_id,
        provider=provider,
        model=model,
        sold_as=sold_as,
        started_at_s=at_s,
    )
    return [run(tx, standings.member_now(place.limit, place.member_id, at_s)) for place in wanted]


def _worked_out(tx: sqlite3.Connection, call: Call, default_zone: str) -> tuple[Looked, ...]:
    """How today's limits stood when the call began: what was spent and held by those before it."""
    path, user_id, key_id, end_user_id, nano, input_tokens, output_tokens = tx.execute(
        """
        SELECT l.path, c.user_id, c.key_id, c.end_user_id, c.held_nano, c.held_input_tokens, c.held_output_tokens
        FROM calls c JOIN lineages l ON l.id = c.lineage_id WHERE c.id = ?
        """,
        (call.call_id,),
    ).fetchone()
    lineage = [int(part) for part in path.split("/") if part]
    applying = limits.applying(tx, lineage=lineage, user_id=user_id, key_id=key_id, default_zone=default_zone)
    started_s = call.started_at_ms // 1000
    there = [limit for limit in applying if limit.created_at_s <= started_s]
    held = {"cost": nano, "tokens": input_tokens + output_tokens}
    provider, model = call.provider or "", call.model or ""
    found = []
    for place in balances.places(
        there,
        user_id=user_id,
        end_user_id=end_user_id,
        provider=provider,
        model=model,
        sold_as=deployments.model_of(deployments.load(tx), provider, model),
        started_at_s=started_s,
    ):
        standing = balances.standing(place, *_before(tx, place, call))
        standing.grant(started_s)
        need = held.get(place.limit.measure, 1)
        found.append(looked(standing, need, need))
    return tuple(found)


def _before(tx: sqlite3.Connection, place: Place, call: Call) -> tuple[int, int]:
    """What calls before this one had spent of a limit and held, when it began."""
    where, parameters = run(tx, facts.counted(place))
    measure = place.limit.measure
    started_s = call.started_at_ms // 1000
    start_s = started_s - 60 if place.slides else place.window_start_s
    spent = 0
    if not place.slides and place.limit.each != "end_user":
        # Whole quarters of an hour from the roll-ups, all but those in which calls may still have been open.
        until = max(start_s // BUCKET_S, (started_s - OPEN_S_MAX) // BUCKET_S)
        plan = run(tx, rollups.whole(start_s // BUCKET_S, until))
        ((spent,),) = tx.execute(
            f"""
            SELECT (SELECT coalesce(sum({SETTLED[measure]}), 0) FROM {rollups.SUMMARIES} WHERE {where})
                 + (SELECT coalesce(sum({SETTLED[measure]}), 0) FROM {rollups.QUARTERS} WHERE {where})
            """,
            parameters | plan.parameters,
        ).fetchall()
        start_s = until * BUCKET_S
    over = "(state <> 'open' AND started_at_ms + coalesce(latency_ms, 0) <= :at)"
    ((ended, held),) = tx.execute(
        f"""
        SELECT coalesce(sum(CASE WHEN state = 'settled' AND {over} THEN {SETTLED_OF_CALL[measure]} END), 0),
               coalesce(sum(CASE WHEN NOT {over} THEN {HELD[measure]} END), 0)
        FROM calls
        WHERE id >= :first AND id < :id AND started_at_ms >= :start * 1000 AND started_at_ms < :end * 1000
          AND state <> 'refused' AND {where}
        """,
        parameters
        | {
            "first": ids.at_or_after(start_s),
            "id": call.call_id,
            "at": call.started_at_ms,
            "start": start_s,
            "end": FAR_S,
        },
    ).fetchall()
    return spent + ended, held
