"""The command reference at the end of the README, from the program's own help: `python -m tests.reference`."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from llmctl.cli.app import COMMANDS, Program
from llmctl.cli.command import HELP_NAMES, Branching, Command, Noun

README = Path(__file__).parent.parent / "README.md"
BEGIN = "<!-- reference: made by `make docs` from the program's own help; changes by hand are overwritten -->"
END = "<!-- end of reference -->"
COLUMNS = "96"
_COMMON = re.compile(r"\n\nCommon options, wherever you write them:.*", re.DOTALL)


def commands() -> Iterator[tuple[str, Command | Noun]]:
    """`("user add", ...)`: every command, nouns before their verbs."""
    program = Program(name="llmctl", context_settings={"help_option_names": HELP_NAMES})
    context = program.make_context("llmctl", [], resilient_parsing=True)
    for rows in COMMANDS.values():
        for row in rows:
            command = program.get_command(context, row.name)
            assert isinstance(command, Command | Noun)
            yield row.name, command
            if isinstance(command, Noun | Branching):
                for name, verb in command.commands.items():
                    assert isinstance(verb, Command)
                    yield f"{row.name} {name}", verb


def help_of(path: str, command: Command | Noun) -> str:
    context = command.make_context(f"llmctl {path}", [], resilient_parsing=True)
    return command.get_help(context)


def text() -> str:
    os.environ["COLUMNS"] = COLUMNS
    listed = list(commands())
    common = _COMMON.search(help_of(*listed[0]))
    assert common is not None
    parts = [BEGIN, "## Commands", f"```\n{common[0].strip()}\n```"]
    for path, command in listed:
        title = f"### {path}" if " " not in path else f"#### {path}"
        parts += [title, f"```\n{_COMMON.sub('', help_of(path, command)).strip()}\n```"]
    return "\n\n".join([*parts, END]) + "\n"


def written(readme: str) -> str:
    """The README with the reference of today at its end."""
    before, _, after = readme.partition(BEGIN)
    rest = after.partition(f"{END}\n")[2]
    return f"{before.rstrip()}\n\n{text()}{rest}"


if __name__ == "__main__":
    current = README.read_text(encoding="utf-8")
    README.write_text(written(current), encoding="utf-8")
    sys.stdout.write("README.md: the command reference is current\n")
