"""A call as it is once it is admitted, without a gateway around it."""

from __future__ import annotations

from typing import cast

from aiohttp.web import BaseRequest

from llmctl.dialects import table
from llmctl.domain.principal import Caller
from llmctl.proxy.attempts import FIRST, Attempt
from llmctl.proxy.call import Call
from llmctl.proxy.heads import Head
from llmctl.proxy.plan import Plan
from llmctl.store.booking import Held
from llmctl.store.secrets import hash_of

ALICE = Caller(1, 1, "k1", "default", 1, "alice", "", (), "UTC", None, False, False, (), (), ())
NO_REQUEST = cast(BaseRequest, None)  # what a client sent is not looked at any more
STARTED_AT_MS = 1_800_000_000_000
BEGAN_S = 10.0


def admitted(
    plan: Plan, held: Held | None = None, *, model: str = "m", attempt: Attempt = FIRST, call_id: int = 5
) -> Call:
    """To an OpenAI chat, of alice, who has no limits."""
    path, secret = "/v1/chat/completions", "sk-llmctl-alice"
    match = table.lookup("POST", path, set())
    body = b'{"model":"%s","messages":[]}' % model.encode()
    return Call(
        http=NO_REQUEST,
        head=Head("POST", path, (), match, secret, hash_of(secret), "", {}, plain_body=True),
        caller=ALICE,
        id=call_id,
        started_at_ms=STARTED_AT_MS,
        began_s=BEGAN_S,
        endpoint=match.endpoint,
        asked=match.endpoint.dialect.read_request(match.endpoint.name, body, match.model),
        plan=plan,
        held=held or Held(plan.demand.output_tokens, False, 0),
        attempt=attempt,
    )
