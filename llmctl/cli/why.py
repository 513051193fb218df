"""`llmctl why`: every limit that was looked at for a call, which one bound, and what would pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer

from llmctl.domain.money import usd_exact, usd_fine

from . import context, humanize, why_cost
from .command import single
from .errors import UsageMistake
from .filters import booked_name
from .limit_table import whom_text
from .options import whole_number
from .render import LAST, Column
from .times import end_short, rfc3339, rfc3339_ms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmctl.domain.why import Looked
    from llmctl.store.calls import Call
    from llmctl.store.why import Why

    from .context import App

app, command = single("why")

INPUT_TOKENS = "1000"
VERDICTS = {
    "fits": "fits",
    "capped": "output lowered",
    "soft": "over, soft",
    "refused": "too little left",
    "changed": "changed since",  # it passed: the limit was another one then
}


@command
def why(
    ctx: typer.Context,
    call: Annotated[str | None, typer.Argument(metavar="CALL", help="Its id: see llmctl calls.")] = None,
    user: Annotated[str | None, typer.Option("--user", metavar="USER", help="A call that they would make.")] = None,
    key: Annotated[str | None, typer.Option("--key", metavar="KEY", help="With this key: its id or user/name.")] = None,
    model: Annotated[str | None, typer.Option("--model", metavar="MODEL", help="As the user would ask for it.")] = None,
    end_user: Annotated[str | None, typer.Option("--end-user", metavar="NAME", help="For this end user.")] = None,
    input_tokens: Annotated[
        str | None, typer.Option("--input-tokens", metavar="N", help=f"Of that call. Default: {INPUT_TOKENS}.")
    ] = None,
    output_tokens: Annotated[
        str | None, typer.Option("--output-tokens", metavar="N", help="Its output maximum. Default: the model's.")
    ] = None,
) -> None:
    """Explain why a call passed or not; or, with --user and --model, whether one would pass now.

    llmctl why c_01JD8W6ZK3QT
    llmctl why --user alice --model gpt-5
    """
    run = context.of(ctx)
    if call is not None:
        if any(text is not None for text in (user, key, model, end_user, input_tokens, output_tokens)):
            raise UsageMistake("a call and a supposed call are both given", hint="write llmctl why CALL alone")
        _explain(run, call)
        return
    if user is not None and key is not None:
        raise UsageMistake("--user and --key are both given", hint="name one of them")
    if model is None or (user is None and key is None):
        raise UsageMistake("which call is not said", hint="write llmctl why CALL, or --user U --model M")
    from .would import suppose

    supposed = suppose(
        run,
        user=user,
        key=key,
        model=model,
        end_user=booked_name(end_user),
        input_tokens=whole_number(input_tokens or INPUT_TOKENS, "--input-tokens", least=0),
        output_tokens=None if output_tokens is None else whole_number(output_tokens, "--output-tokens", least=1),
    )
    values: dict[str, object] = {**supposed.values, "limits": [_values(one) for one in supposed.limits]}
    run.out.result(values, supposed.fields)
    _table(run, supposed.limits, passed=False)


def _explain(run: App, reference: str) -> None:
    from llmctl.store import why as store

    with run.reading() as tx:
        found = store.of_call(tx, reference, default_zone=run.config.timezone)
    from llmctl.domain.why import tightest

    one = found.call
    near = tightest(found.limits)
    bound = found.bound or (f"l{near.limit_id}" if near is not None else None)
    values: dict[str, object] = {
        "id": one.id,
        "started_at": rfc3339_ms(one.started_at_ms),
        "user": one.user,
        "key": one.key,
        "group": one.group,
        "end_user": one.end_user,
        "provider": one.provider,
        "model": one.model or one.request_model,
        "state": one.state,
        "status": one.status,
        "error": one.error,
        "message": found.message or None,
        "attempts": [attempt.id for attempt in found.attempts],
        "held_usd": usd_exact(one.held_nano_usd),
        "held_input_tokens": found.held_input_tokens,
        "held_output_tokens": found.held_output_tokens,
        **why_cost.values(found),
        "bound": bound,
        "limits_of_today": one.state != "refused",  # a refusal keeps those that it was decided by
        "limits": [_values(looked, passed=one.state != "refused") for looked in found.limits],
    }
    run.out.result(values, _fields(run, found, near))
    _table(run, found.limits, passed=one.state != "refused")


def _fields(run: App, found: Why, near: Looked | None) -> list[tuple[str, str | Sequence[str]]]:
    from .calls_table import result

    one = found.call
    fields: list[tuple[str, str | Sequence[str]]] = [
        ("Call", f"{one.id} at {rfc3339_ms(one.started_at_ms)}"),
        ("Caller", _caller(one)),
        ("Model", f"{one.provider}/{one.model}" if one.model else one.request_model),
        ("Result", result(one)),
    ]
    for number, attempt in enumerate(found.attempts, 1):
        at = f"{attempt.provider}/{attempt.model}"
        fields.append((f"Attempt {number}", f"{attempt.id} {at}: {result(attempt)}"))
    if found.message:
        fields.append(("Told", found.message))
    if one.state != "refused":
        tokens = f"{found.held_input_tokens:,} input and {found.held_output_tokens:,} output tokens"
        fields.append(("Held", f"{usd_fine(one.held_nano_usd)}: up to {tokens}"))
    fields += why_cost.fields(run, found)
    if one.state == "refused" and found.bound and near is not None:
        bound = next((looked for looked in found.limits if f"l{looked.limit_id}" == found.bound), near)
        fields.append(("Bound by", found.bound))
        fields.append(("Would pass", would_pass(run, bound)))
    elif near is not None and one.state != "refused":
        fields.append(("Nearest", f"l{near.limit_id}"))
    if not found.limits:
        fields.append(("Limits", "none was looked at" if one.state == "refused" else "none applies"))
    elif one.state != "refused":
        fields.append(("Limits", "as they are set today; spent and held: by the calls before this one"))
    return fields


def _caller(call: Call) -> str:
    group = f" in {call.group}" if call.group else ""
    return f"{call.key}{group}{f' for {call.end_user}' if call.end_user else ''}"


def would_pass(run: App, bound: Looked) -> str:
    """What a limit that refuses would let through instead, and when it lets through more."""
    if bound.measure == "concurrency":
        return "as soon as an open call has ended"
    again = ""
    if bound.window == "minute":
        again = "; it slides: some comes back each few seconds"
    elif bound.resets_at_s is not None:
        again = f"; all again at {end_short(bound.resets_at_s, ZoneInfo(bound.zone), run.now_s)}"
    if bound.left <= 0:
        return f"nothing{again or ', until the limit is raised'}"
    most = usd_fine(bound.left, "down") if bound.measure == "cost" else f"{bound.left:,} {bound.measure}"
    return f"a call that needs up to {most}{again}"


def _values(one: Looked, *, passed: bool = False) -> dict[str, object]:
    def exact(number: int) -> str | int:
        return usd_exact(number) if one.measure == "cost" else number

    principal, name, each = one.whom
    return {
        "id": f"l{one.limit_id}",
        "on": principal,
        "name": name or None,
        "each": each or None,
        "measure": one.measure,
        "window": None if one.measure == "concurrency" else one.window,
        "models": one.models or None,
        "soft": one.soft,
        "amount": exact(one.amount),
        "spent": exact(one.spent),
        "held": exact(one.held),
        "left": exact(one.left),
        "needed": exact(one.wanted),
        "needed_min": exact(one.least),
        "resets_at": rfc3339(one.resets_at_s),
        "verdict": _verdict(one, passed=passed),
    }


def _short(one: Looked, number: int) -> str:
    return usd_fine(number) if one.measure == "cost" else f"{number:,}"


def _left(one: Looked) -> str:
    left = max(0, one.left)
    return usd_fine(left, "down") if _is_short(one) else _short(one, left)


def _needed(one: Looked) -> str:
    return usd_fine(one.wanted, "up") if _is_short(one) else _short(one, one.wanted)


def _is_short(one: Looked) -> bool:
    """Whether there is less money left than is needed: the figures must show it."""
    return one.measure == "cost" and one.verdict != "fits"


def _verdict(one: Looked, *, passed: bool) -> str:
    return "changed" if passed and one.verdict == "refused" else one.verdict


def _table(run: App, limits: Sequence[Looked], *, passed: bool) -> None:
    if not limits or run.out.format != "table":
        return
    run.out.line("")
    run.out.rows(
        (
            Column("id", None, "ID", lambda one: f"l{one.limit_id}", fixed=True),
            Column("on", None, "ON", lambda one: whom_text(*one.whom)),  # as `llmctl limit list` has it
            Column("limit", None, "LIMIT", _limit_text, least=LAST),
            Column("spent", None, "SPENT", lambda one: _short(one, one.spent), right=True, drop=1),
            Column("held", None, "HELD", lambda one: _short(one, one.held), right=True, drop=2),
            Column("left", None, "LEFT", _left, right=True),
            Column("needed", None, "NEEDED", _needed, right=True),
            Column("verdict", None, "VERDICT", lambda one: VERDICTS[_verdict(one, passed=passed)], fixed=True),
        ),
        limits,
    )


def _limit_text(one: Looked) -> str:
    models = f" on {one.models}" if one.models else ""
    return f"{humanize.limit_text(one.measure, one.amount, one.window)}{models}"
