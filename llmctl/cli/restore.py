"""`llmctl restore`: a copy in the place of the database."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmctl.domain.errors import StoreBroken

from . import context, humanize
from .ask import DryRun, Yes, confirm
from .command import single

if TYPE_CHECKING:
    from llmctl.store.copies import Restored

app, command = single("restore")

SQLITE_FILE = b"SQLite format 3\0"  # how each begins: https://www.sqlite.org/fileformat.html


@command
def restore(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE", help="A copy that llmctl backup made.")],
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Put a copy in the place of the database, which is kept. No gateway may run.

    Keys that were revoked since the copy stay revoked, those that were given an earlier end keep it, users and groups
    that were disabled or removed are disabled, the networks that keys and groups were bound to since count, and the
    secrets of rotated keys are the newer ones.
    """
    from llmctl.store import copies, owners

    run = context.of(ctx)
    schema = _schema(Path(file))
    if dry_run:
        serving = owners.living(run.database)
        values: dict[str, object] = {"file": str(file), "schema": schema, "gateway_runs": bool(serving)}
        first = f" once the gateway is stopped (process {serving[0].pid})" if serving else ""
        run.out.one(values, f"{file} is sound, of schema {schema}: it can be restored{first}.")
        return
    confirm(run, f"Replace {run.database} by {file}?", yes=yes)
    done = copies.restore(Path(file), run.database, run.author)
    values = {
        "file": str(file),
        "kept": str(done.kept) if done.kept else None,
        "carried_over": None if done.carried is None else done.carried.facts,
    }
    run.out.one(values, "\n".join([f"Restored {file}.{_kept(done)}", *_carried(done)]))


def _schema(file: Path) -> int:
    """Of a sound copy. Raises LlmctlError about the file: the database in use may be well."""
    from llmctl.store import copies

    try:
        return copies.check(file)
    except StoreBroken as error:
        if error.message.startswith(str(file)):
            raise
        with file.open("rb") as opened:
            ours = opened.read(len(SQLITE_FILE)) == SQLITE_FILE
        what = "is damaged" if ours else "is no backup of llmctl"
        raise StoreBroken(f"{file} {what}", hint="name another file that llmctl backup made") from None


def _kept(done: Restored) -> str:
    return f" The one that was there: {done.kept}" if done.kept else ""


def _carried(done: Restored) -> list[str]:
    """What was done since the copy and holds on, by name: an admin has to know which of it to mend."""
    if done.carried is None:
        return ["! It could not be read: what was revoked since the copy works again. See: llmctl key list"]
    texts = {
        "revoked": "revoked",
        "expiring": "expiring when set since",
        "rotated": "rotated, with their newer secrets",
        "disabled": "disabled",
        "bound": "bound to the networks set since",
    }
    return [f"Still {texts[what]}: {humanize.some(names)}" for what, names in done.carried.named.items() if names]
