"""A new secret, shown once: alone on stdout or in a file of its own, with the prose beside it on stderr."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from llmctl.domain.errors import AlreadyExists, LlmctlError

from .errors import UsageMistake
from .times import rfc3339

if TYPE_CHECKING:
    from llmctl.store.keys import NewKey

    from .context import App

KeyFile = Annotated[
    str | None,
    typer.Option("--key-file", metavar="FILE", help="Write the key to this new file (0600) instead of stdout."),
]


def key_flag_differs(no_key: bool, key_file: str | None, expires: str | None) -> None:
    """Raises UsageMistake for a file that no key would go into, an end that no key would have."""
    for flag, value in (("--key-file", key_file), ("--expires", expires)):
        if no_key and value is not None:
            raise UsageMistake(f"--no-key and {flag} are both given", hint="name one of them")


@contextmanager
def secret_file(run: App, path: str | None) -> Iterator[IO[str] | None]:
    """The file that a secret will be written to: opened before anything is changed, removed if the change fails.
    Without one it goes to stdout, which has to be there."""
    if path is None:
        if not run.has_stdout:
            hint = "leave it open, or name --key-file FILE"
            raise LlmctlError("stdout is closed, and the key is shown only once", hint=hint, code="output")
        yield None
        return
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise AlreadyExists(f"{path} exists already", hint="name another --key-file: none is overwritten") from None
    except OSError as error:
        raise LlmctlError(f"cannot create {path}: {error.strerror}", hint="name another --key-file") from None
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        Path(path).unlink(missing_ok=True)
        raise


def values(new: NewKey, *, in_file: bool) -> dict[str, object]:
    """The JSON of a key that was just made."""
    key = new.key
    return {
        "user": key.user,
        "group": key.group,
        "key": {
            "id": key.id,
            "name": key.name,
            "prefix": key.prefix,
            "secret": None if in_file else new.secret,
            "expires_at": rfc3339(key.expires_at_s),
        },
    }


def show(run: App, new: NewKey, *, before: str, after: str, path: str | None) -> None:
    """Prints a new secret: prose to stderr, the secret alone to stdout."""
    if run.out.format != "table":
        run.out.one(values(new, in_file=path is not None), "")
        return
    if path is not None:
        run.out.prose(f"{before}, written to {path}.")
    else:
        run.out.prose(f"{before}, shown once:\n")
        run.out.line(new.secret)
    if after:
        run.out.prose(f"\n{after}")
