"""`llmctl export`: the organisation as TOML."""

from __future__ import annotations

import typer

from llmctl.domain.organisation import ORG

from . import context
from .command import single
from .errors import UsageMistake

app, command = single("export")

HEAD = """\
# The organisation of llmctl: `llmctl apply FILE` brings a database to it, `llmctl export > FILE` writes it anew.
# No secret is in here: users that are made from it get their keys with `llmctl key create`.
"""


@command
def export(ctx: typer.Context) -> None:
    """Print groups, users, model access, limits and their grants as TOML, for `llmctl apply`. Keys are not in it: of
    one, only the rules and limits that are set on it.

    llmctl export > organisation.toml
    """
    from llmctl.store import organisation

    from . import organisation_file

    run = context.of(ctx)
    if run.out.format == "csv":
        raise UsageMistake("an organisation does not fit into CSV", hint="leave -o out for TOML, or -o json")
    with run.reading() as tx:
        members = organisation.read(tx, default_zone=run.config.timezone, now_s=run.now_s)
    if run.out.format == "json":
        run.out.one(organisation_file.values(members), "")
        return
    assert ORG in members
    run.out.line(organisation_file.written(members, head=HEAD).rstrip())
