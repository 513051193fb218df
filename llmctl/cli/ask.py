"""Asking before something that is hard to undo: on a terminal a question, elsewhere --yes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from llmctl.domain.errors import LlmctlError

if TYPE_CHECKING:
    from .context import App

Yes = Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only tell what would be done.")]


def confirm(run: App, question: str, *, yes: bool) -> None:
    """Returns if the answer is yes. Raises LlmctlError if it is not, or if there is nobody to ask."""
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise LlmctlError(f"nobody is there to answer: {question}", hint="say it with --yes", code="not_confirmed")
    run.out.stdout.flush()
    run.out.stderr.write(f"{question} [y/N] ")
    run.out.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise LlmctlError("declined", hint="nothing was changed", code="declined")
