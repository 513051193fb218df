"""`llmctl user import`: a CSV file in, a CSV file of new keys out, one transaction between them."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING

from llmctl.domain.errors import LlmctlError

from . import secret_output
from .errors import BadFile, UsageMistake
from .humanize import plural
from .times import ahead_or_never, rfc3339

if TYPE_CHECKING:
    from llmctl.store.audit import Author
    from llmctl.store.database import Tx
    from llmctl.store.user_import import Import, Made, NewUser, Problem

    from .context import App

COLUMNS = ("name", "group", "email", "key", "expires", "note")
FILE_BYTES_MAX = 64 << 20  # a million users; more is another kind of file
PROBLEMS_SHOWN_MAX = 10


def run(
    app: App,
    file: str,
    *,
    group: str | None,
    expires: str | None,
    create_groups: bool,
    if_not_exists: bool,
    with_keys: bool,
    key_file: str | None,
    dry_run: bool,
) -> None:
    """Raises UsageMistake, BadFile (a file that cannot be imported), AlreadyExists (the key file)."""
    from llmctl.store import user_import

    secret_output.key_flag_differs(not with_keys, key_file, expires)
    if with_keys and key_file is None and not dry_run:
        raise UsageMistake("the new keys have nowhere to go", hint="name --key-file FILE, or --no-key")
    listed = list(_users(app, file, group=group, expires=expires))
    with app.reading() as tx:
        there = user_import.existing(tx, listed) if if_not_exists else set()
        users = [user for user in listed if user.name.lower() not in there]
        _check(app, file, user_import.problems(tx, users, with_groups=create_groups))
        new_groups = user_import.missing_groups(tx, users)
    made: Sequence[Made] = []
    if users and not dry_run:
        with secret_output.secret_file(app, key_file) if with_keys else nullcontext() as out:

            def prepare(tx: Tx) -> Import:
                # Again: somebody may have been quicker.
                _check(app, file, user_import.problems(tx, users, with_groups=create_groups))
                return user_import.prepare(tx, users, with_keys=with_keys)

            def add(tx: Tx, author: Author, prepared: Import) -> Sequence[Made]:
                user_import.add(tx, author, prepared)
                if out is not None:
                    _write_keys(out, prepared.made)
                return prepared.made

            made = app.change(prepare, add)
    values: dict[str, object] = {
        "users": len(users),
        "groups": new_groups,
        "keys": len(made),
        "skipped": len(listed) - len(users),
        "key_file": key_file if made else None,
        "dry_run": dry_run,
    }
    app.out.one(values, _report(values, new_groups))


def _users(app: App, file: str, *, group: str | None, expires: str | None) -> Iterator[NewUser]:
    from llmctl.store.keys import DEFAULT_NAME
    from llmctl.store.user_import import NewUser

    default_end = expires or "never"
    ends = {default_end: ahead_or_never(default_end, app.zone, app.now_s)}
    lines = csv.reader(io.StringIO(_text(file)), delimiter=",", strict=True)
    try:
        header = [name.strip().lower() for name in next(lines, [])]
        _check_header(file, header)
        for cells in lines:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) > len(header):
                raise BadFile(
                    f"{file}:{lines.line_num}: {len(cells)} cells under {len(header)} columns",
                    hint='put "quotes" around a cell that holds a comma',
                )
            row = {name: cell.strip() for name, cell in zip(header, cells, strict=False)}
            end = row.get("expires") or default_end
            if end not in ends:
                ends[end] = _end(app, file, lines.line_num, end)
            yield NewUser(
                line=lines.line_num,
                name=row["name"],
                group=row.get("group") or group,
                email=row.get("email") or None,
                key=row.get("key") or DEFAULT_NAME,
                expires_at_s=ends[end],
                note=row.get("note") or None,
            )
    except csv.Error as error:
        raise BadFile(f"{file}:{lines.line_num}: {error}", hint="write it as comma-separated values") from None


def _text(file: str) -> str:
    try:
        raw = sys.stdin.buffer.read(FILE_BYTES_MAX + 1) if file == "-" else _read(Path(file))
    except OSError as error:
        raise LlmctlError(f"cannot read {file}: {error.strerror}", hint="name a CSV file, or - for stdin") from None
    if len(raw) > FILE_BYTES_MAX:
        raise BadFile(f"{file} is larger than {FILE_BYTES_MAX >> 20} MiB", hint="import it in parts")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadFile(f"{file} is not UTF-8, at byte {error.start}", hint="save it as CSV UTF-8") from None


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(FILE_BYTES_MAX + 1)


def _check_header(file: str, header: Sequence[str]) -> None:
    hint = f"write a first line such as: {','.join(COLUMNS[:3])}"
    unknown = [name for name in header if name not in COLUMNS]
    if "name" not in header:
        raise BadFile(f"{file}:1: no column name", hint=hint)
    if unknown or len(set(header)) != len(header):
        what = f"unknown column {unknown[0]!r}" if unknown else "a column stands there twice"
        raise BadFile(f"{file}:1: {what}", hint=f"columns are {', '.join(COLUMNS)}")


def _end(app: App, file: str, line: int, text: str) -> int | None:
    try:
        return ahead_or_never(text, app.zone, app.now_s)
    except LlmctlError as error:
        raise BadFile(f"{file}:{line}: {error.message}", hint=error.hint) from None


def _check(app: App, file: str, problems: Sequence[Problem]) -> None:
    """All problems at once, so that a file is mended once."""
    if not problems:
        return
    lines = [f"{file}:{problem.line}: {problem.text}" for problem in problems]
    if app.out.format == "table" and len(lines) > 1:
        from .text import safe

        more = [f"... and {len(lines) - PROBLEMS_SHOWN_MAX} more"] if len(lines) > PROBLEMS_SHOWN_MAX else []
        app.out.prose("\n".join([*map(safe, lines[:PROBLEMS_SHOWN_MAX]), *more]))
        raise BadFile(f"{file} has {plural(len(lines), 'problem')}", hint="nothing was imported: mend them all")
    rest = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
    raise BadFile(f"{lines[0]}{rest}", hint="nothing was imported")


def _write_keys(out: IO[str], made: Sequence[Made]) -> None:
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["user", "group", "key_id", "key_name", "expires_at", "secret"])
    for one in made:
        user = one.user
        writer.writerow([user.name, user.group, one.key_id, user.key, rfc3339(user.expires_at_s), one.secret])
    out.flush()  # a full disk shows here, while nothing is committed yet


def _report(values: dict[str, object], new_groups: Sequence[str]) -> str:
    would = "Would import" if values["dry_run"] else "Imported"
    users, skipped, keys = values["users"], values["skipped"], values["keys"]
    assert isinstance(users, int) and isinstance(skipped, int) and isinstance(keys, int)
    parts = [f"{would} {plural(users, 'user')}"]
    if new_groups:
        parts.append(f"{'make' if values['dry_run'] else 'made'} {plural(len(new_groups), 'group')}")
    if keys:
        parts.append(f"{plural(keys, 'key')} in {values['key_file']} (0600)")
    if skipped:
        parts.append(f"skipped {skipped} that exist")
    return f"{', '.join(parts)}."
