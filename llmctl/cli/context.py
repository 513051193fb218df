"""What every command shares: flags, configuration, the database, who runs it, and the clock. Found once, here."""

from __future__ import annotations

import os
import pwd
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from zoneinfo import ZoneInfo

import typer

from llmctl.domain.errors import ConfigError

from .errors import UsageMistake
from .render import FOCUS, FORMATS, Output

if TYPE_CHECKING:
    from llmctl.config import Config
    from llmctl.store.audit import Author
    from llmctl.store.database import Store, Tx

Seen = TypeVar("Seen")
Done = TypeVar("Done")

LOOKS_MAX = 3
PERSON_CHARS_MAX = 64
LOGIN_UID = Path("/proc/self/loginuid")
NO_UID = 2**32 - 1


@dataclass(slots=True)
class Flags:
    """The common flags; empty = not given."""

    config: str = ""
    database: str = ""
    format_: str = ""
    quiet: bool = False
    color: str = ""


class App:
    """One run of the program."""

    def __init__(self, clock_s: Callable[[], float], *, has_stdout: bool = True) -> None:
        self.flags = Flags()
        self.has_stdout = has_stdout  # False: it was closed (`>&-`)
        self._clock_s = clock_s
        self._store: Store | None = None
        self.offers_focus = False

    @cached_property
    def now_s(self) -> int:
        """One moment for all that this command does."""
        return int(self._clock_s())

    def clock_s(self) -> float:
        """The time now, for commands that run on."""
        return self._clock_s()

    @cached_property
    def out(self) -> Output:
        if self.flags.format_ == FOCUS and not self.offers_focus:
            raise UsageMistake("-o focus is for usage", hint=f"write one of {', '.join(FORMATS)}")
        return Output(self.flags.format_ or "table", quiet=self.flags.quiet, color=self.flags.color or "auto")

    @property
    def named_config(self) -> Path | None:
        return Path(self.flags.config) if self.flags.config else None

    @property
    def named_database(self) -> Path | None:
        named = self.flags.database or os.environ.get("LLMCTL_DATABASE", "")
        return Path(named) if named else None

    @cached_property
    def config(self) -> Config:
        """The configuration that counts; all defaults where only a database is named. Raises ConfigError."""
        from llmctl import config

        database = self.named_database
        try:
            path = config.find(self.named_config)
        except ConfigError:
            if database is None or self.flags.config or os.environ.get("LLMCTL_CONFIG"):
                raise
            return config.Config(path=Path("config.toml"), database=database)
        return config.load(path, database=database)

    @property
    def database(self) -> Path:
        return nearby(self.config.database)

    @property
    def urls(self) -> list[str]:
        """Where clients connect: to what serves the database now, which may have begun with another configuration."""
        from llmctl.store import serving

        said = [url for daemon in serving.daemons(self.config.database) for url in daemon.urls]
        return list(dict.fromkeys(said)) or [self.config.server.url]

    @cached_property
    def zone(self) -> ZoneInfo:
        """The organisation's time zone."""
        return ZoneInfo(self.config.timezone)

    @contextmanager
    def reading(self) -> Iterator[Tx]:
        """A snapshot of the database. Needs no right to write it, and never waits for a writer."""
        if self._store is not None and self._store.replaced():
            self.close()  # a backup was restored while `top` looked on
        if self._store is None:
            from llmctl.store.database import Store

            self._store = Store(self.database, readonly=True)
        with self._store.read() as tx:
            yield tx

    @contextmanager
    def writing(self) -> Iterator[tuple[Tx, Author]]:
        """A change, all of it or nothing, in the name of whoever runs this command."""
        with self.storing() as (store, _), store.write() as tx:
            yield tx, self.author

    def change(self, look: Callable[[Tx], Seen], act: Callable[[Tx, Author, Seen], Done]) -> Done:
        """A change that needs a long look first, which no call waits for: `act` gets what `look` saw in a snapshot, if
        nothing was changed since; else another look is taken, at last under the lock."""
        from llmctl.store.callers import settings_version

        for _ in range(LOOKS_MAX):
            with self.reading() as tx:
                version, seen = settings_version(tx), look(tx)
            with self.writing() as (tx, author):
                if settings_version(tx) == version:
                    return act(tx, author, seen)
        with self.writing() as (tx, author):
            return act(tx, author, look(tx))

    @contextmanager
    def storing(self) -> Iterator[tuple[Store, Author]]:
        """For changes that take many steps, so that nobody waits for long meanwhile."""
        from llmctl.store.database import Store

        store = Store(self.database)
        try:
            yield store, self.author
        finally:
            store.close()

    @property
    def author(self) -> Author:
        """Whoever runs this command, now: after a question was answered, or the lock waited for, it is later. A limit
        counts what was called before it was really there."""
        from llmctl.store.audit import Author

        return Author(_person(), int(self._clock_s()))

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None


def of(ctx: typer.Context) -> App:
    app = ctx.obj
    assert isinstance(app, App)
    return app


def nearby(path: Path) -> Path:
    """The path as people write it: relative where it lies below the working directory."""
    try:
        return path.absolute().relative_to(Path.cwd())
    except (ValueError, OSError):
        return path


def program() -> str:
    """How to call this program again: by its name where the shell finds it, else by its path."""
    if shutil.which("llmctl"):
        return "llmctl"
    called = Path(sys.argv[0])
    return str(nearby(called)) if called.name == "llmctl" else f"{sys.executable} -m llmctl"


def _person() -> str:
    """The system user, and who they were before sudo or su: `root (alice)`, `llmctl (alice)`."""
    user = _user_name(os.getuid())
    before = _login_name() or os.environ.get("SUDO_USER", "")
    if before and before.isprintable() and len(before) <= PERSON_CHARS_MAX and before != user:
        return f"{user} ({before})"
    return user


def _login_name() -> str:
    """Who logged in, as the kernel keeps it over sudo and su, where it does; the environment can be made up."""
    try:
        uid = int(LOGIN_UID.read_text())
    except (OSError, ValueError):
        return ""
    return "" if uid == NO_UID else _user_name(uid)


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"  # containers run as users without a name
