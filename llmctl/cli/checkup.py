"""What `llmctl doctor` looks at. Each check says how it is, and what to do where it is not well."""

from __future__ import annotations

import platform
import resource
import shlex
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from llmctl.domain.errors import LlmctlError
from llmctl.domain.hints import price_set

from . import humanize

if TYPE_CHECKING:
    from llmctl.store.invariants import Wrong

    from .context import App

State = Literal["ok", "warning", "failed"]
CLOCK_OFF_S = 60
FREE_BYTES_MIN = 1 << 30
FILES_MIN = 4_096
UNPRICED_DAYS = 30


@dataclass(frozen=True, slots=True)
class Check:
    """One line: what was looked at, how it is, and the mend."""

    name: str
    state: State
    text: str
    mend: str = ""


def files(run: App) -> Iterator[Check]:
    """Configuration and database: there, private, writable, of this version, sound, with room to grow."""
    from llmctl.store import contents, copies, database, filesystem

    yield Check("configuration", "ok", str(run.config.path))
    path = run.database
    database.must_exist(path)
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield Check("permissions", "warning", f"others may read {path}", f"chmod 600 {path}")
    else:
        yield Check("permissions", "ok", f"{path} is its owner's alone")
    try:
        filesystem.check_writable(path)
    except LlmctlError as error:
        yield Check("writing", "failed", f"{error.message} by this user", error.hint)
    else:
        yield Check("writing", "ok", "this user may change it")
    try:
        schema = copies.check(path)
    except LlmctlError as error:
        yield Check("database", "failed", error.message, error.hint)
    else:
        size = humanize.size(database.file_bytes(path))
        yield Check("database", "ok", f"sound, schema {schema}, {size}")
    free = shutil.disk_usage(path.absolute().parent).free
    wanted = max(FREE_BYTES_MIN, database.file_bytes(path))
    state: State = "ok" if free >= wanted else "warning"
    mend = "" if state == "ok" else "make room; llmctl prune has new calls take that of old ones"
    yield Check("disk", state, f"{humanize.size(free)} free", mend)
    kept = contents.directory_of(path)
    if days := contents.days(kept):
        size = humanize.size(sum(size for _, size in days))
        text = f"{size} of prompts and answers, {humanize.plural(len(days), 'day')}"
        mend = "" if state == "ok" else f"lower keep_days in [content], then: llmctl reload; or remove days in {kept}"
        yield Check("contents", state, text, mend)


def books(wrong: Wrong) -> Iterator[Check]:
    """Roll-ups, summaries and balances against the calls."""
    from llmctl.domain.money import usd_short

    mend = "llmctl doctor --repair"
    if wrong.rollups:
        text = f"{humanize.plural(len(wrong.rollups), 'row')} differ from the calls, by {usd_short(wrong.cost_nano)}"
        yield Check("roll-ups", "failed", text, mend)
    else:
        yield Check("roll-ups", "ok", "they say what the calls say")
    if wrong.summaries:
        text = f"{humanize.plural(len(wrong.summaries), 'row')} of days and months differ from the roll-ups"
        yield Check("summaries", "failed", text, mend)
    else:
        yield Check("summaries", "ok", "days and months say what the roll-ups say")
    if wrong.balances:
        text = f"{len(wrong.balances)} of {wrong.balances_checked} differ from the calls"
        yield Check("balances", "failed", text, mend)
    else:
        yield Check("balances", "ok", f"{wrong.balances_checked} current ones say what the calls say")


def calls(run: App) -> Iterator[Check]:
    """Calls that nobody will end, and calls without a price."""
    from llmctl.store import deferred, live, owners, usage

    with run.reading() as tx:
        open_calls, _ = live.open_calls(tx)
        background = len(deferred.listing(tx))
        unpriced = usage.unpriced_models(tx, run.now_s - UNPRICED_DAYS * 86_400)
    serving = owners.living(run.database)
    beside = f", {background} of them in the background" if background else ""
    if open_calls and not serving:
        text = f"{humanize.plural(open_calls, 'call')} open{beside}, and no gateway runs"
        mend = (
            "llmctl serve asks how they ended" if open_calls == background else "llmctl serve books them, as estimated"
        )
        yield Check("open calls", "warning", text, mend)
    else:
        yield Check("open calls", "ok", f"{open_calls} open{beside}")
    yield from _prices(run, unpriced)


def _prices(run: App, unpriced: Sequence[tuple[str, int]]) -> Iterator[Check]:
    """Models without a price, and those at a ceiling."""
    from llmctl.store.filters import Filters

    from . import ceilings

    recent = Filters(since_s=run.now_s - UNPRICED_DAYS * 86_400, until_s=run.now_s + 1)
    with run.reading() as tx:
        at_ceiling = ceilings.calls_at(run, tx, recent)
        priced_since = bool(unpriced) and bool(ceilings.source_of(run, tx, *unpriced[0][0].split("/", 1)))
        without = [model for model in at_ceiling if not ceilings.has_price(run, tx, *model.split("/", 1))]
    if unpriced:
        model, _ = unpriced[0]
        mend = price_set(model)
        text = f"{_most(unpriced)} cost nobody knows what"
        yield Check("prices", "warning", text, "llmctl usage reprice" if priced_since else mend)
    if at_ceiling:
        mend = "llmctl usage reprice"
        if without:
            mend = f"{price_set(without[0])}, then: {mend}"
        yield Check("ceilings", "warning", f"{_most([*at_ceiling.items()])} booked at a ceiling", mend)
    if not unpriced and not at_ceiling:
        yield Check("prices", "ok", f"every call of the last {UNPRICED_DAYS} days has one")


def _most(models: Sequence[tuple[str, int]]) -> str:
    model, number = models[0]
    others = f" and {len(models) - 1} more" if len(models) > 1 else ""
    return f"{model} ({humanize.plural(number, 'call')} in {UNPRICED_DAYS} days){others}"


def names(run: App) -> Iterator[Check]:
    """Rules and limits on a name that is an alias by now: they do not bind the model behind it."""
    from llmctl.store import limits, model_rules

    with run.reading() as tx:
        rules = model_rules.listing(tx)
        limited = limits.listing(tx, default_zone=run.config.timezone)
    for rule in rules:
        if rule.pattern in run.config.aliases:
            on = rule.scope.label
            scope = "--org" if rule.scope.principal == "org" else f"--{on}"
            what = f"{rule.effect} {rule.pattern} on {on}"
            yield _left_behind(run, what, rule.pattern, f"llmctl model reset {shlex.quote(rule.pattern)} {scope}")
    for limit in limited:
        if limit.model_pattern in run.config.aliases:
            what = f"limit l{limit.id} on {limit.on}"
            yield _left_behind(run, what, limit.model_pattern, f"llmctl limit remove l{limit.id}")


def _left_behind(run: App, what: str, alias: str, mend: str) -> Check:
    text = f"{what} does not bind {run.config.aliases[alias]}, of which {alias} is an alias by now"
    return Check("aliases", "warning", text, f"{mend}, then set it anew")


def system() -> Iterator[Check]:
    """This machine, for this process's user."""
    from llmctl.store import database

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = soft == resource.RLIM_INFINITY or soft >= FILES_MIN
    mend = "" if enough else f"ulimit -n {FILES_MIN}, or LimitNOFILE= in the unit: each stream takes two"
    yield Check("open files", "ok" if enough else "warning", f"{soft} at most", mend)
    yield Check("versions", "ok", f"Python {platform.python_version()}, SQLite {database.SQLITE_VERSION}")


def providers(run: App) -> Iterator[Check]:
    """Whether each can be reached, takes our credentials, and has our time."""
    from llmctl.store import owners

    from . import provider_check

    serving = bool(owners.living(run.database))
    for provider in run.config.providers.values():
        if provider.is_sandbox:
            continue
        answers = provider_check.ask(provider, serving=serving)
        for answer in answers:
            name = f"provider {provider.name}" + (f" ({answer.credential})" if len(answers) > 1 else "")
            yield Check(name, answer.state, answer.text, answer.mend)
        off_s = max((abs(answer.clock_off_s) for answer in answers), default=0)
        if off_s > CLOCK_OFF_S:
            yield Check("clock", "warning", f"{off_s} s away from {provider.name}'s", "set it: limits go by the clock")
