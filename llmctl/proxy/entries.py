"""What the ledger is told of a call before it is under way: that it wants to start, or that it was refused."""

from __future__ import annotations

from llmctl.dialects.endpoint import Match
from llmctl.dialects.request import Request, end_user_id
from llmctl.domain.errors import Refused
from llmctl.domain.principal import Caller
from llmctl.store.booking import Closing, Opening, Refusal

from .attempts import Attempt
from .call import Arrival
from .plan import Plan

END_USER = "x-llmctl-end-user"
UNNAMED = "(unnamed)"


def opening_of(
    arrival: Arrival,
    caller: Caller,
    match: Match,
    asked: Request,
    plan: Plan,
    tags: str,
    attempt: Attempt,
    replaces: Closing | None,
) -> Opening:
    endpoint = match.endpoint
    return Opening(
        call_id=arrival.id,
        started_at_ms=arrival.started_at_ms,
        caller=caller,
        provider=plan.provider.name,
        model=plan.model,
        dialect=endpoint.dialect.name,
        endpoint=endpoint.name,
        request_model=asked.ask.model or plan.model,
        stream=asked.ask.stream or match.streams,
        demand=plan.demand,
        price_id=plan.price.id if plan.price else None,
        end_user=_end_user(arrival, asked) if caller.acts_for_end_users else "",
        tags=tags,
        attempt_of=attempt.first_id,
        replaces=replaces,
    )


def refusal_of(arrival: Arrival, refused: Refused, status: int) -> Refusal | None:
    """`status`: HTTP, as the client got it. None: nothing is booked, or the call has a row already."""
    caller, endpoint, asked = arrival.caller, arrival.endpoint, arrival.asked
    if caller is None or endpoint is None or arrival.admitted:
        return None
    ask = asked.ask if asked else None
    return Refusal(
        call_id=arrival.id,
        started_at_ms=arrival.started_at_ms,
        caller=caller,
        dialect=endpoint.dialect.name,
        endpoint=endpoint.name,
        request_model=ask.model if ask else "",
        stream=ask.stream if ask else False,
        refused=refused,
        status=status,
        end_user=_end_user(arrival, asked) if asked and caller.acts_for_end_users else "",
    )


def _end_user(arrival: Arrival, asked: Request) -> str:
    """Whom a call is for, of a key that acts for end users. Those that it does not name share one member."""
    return end_user_id(arrival.http.headers.get(END_USER)) or asked.ask.end_user or UNNAMED
