"""What is taken out of prompts and answers before they are kept."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

# Each of these reads a text once, whatever is in it: it starts where a word does, and gives nothing back that it took.
# In code, and in JSON that a text quotes, a line break is written out: its letter belongs to no word.
_BROKEN = r"(?<=\\[nrt])"
_EMAIL = re.compile(rf"(?:{_BROKEN}|(?<![\w.+-])(?!(?<=\\)[nrt]))[\w.+-]++@[\w-]++(?:\.[\w-]++)++")
# Beginnings that say what a secret is: OpenAI's and ours, AWS's, GitHub's, Google's, Slack's, a private key, a JWT.
_KEY = re.compile(
    rf"(?:{_BROKEN}|\b)(?:sk-[\w-]{{16,}}|(?:AKIA|ASIA)[0-9A-Z]{{16}}|gh[pousr]_\w{{20,}}|AIza[\w-]{{30,}}"
    r"|xox[abprs]-[\w-]{10,}|(?<!-)eyJ[\w-]{10,}+\.[\w-]{10,}+\.[\w-]*+)"
)
_BEGIN, _END = "-----BEGIN ", "-----END "
_PRIVATE = re.compile(r"[A-Z ]{0,20}PRIVATE KEY-----")
_DIGITS = re.compile(rf"(?:{_BROKEN}|(?<![\w.]))(?:\d[ -]?){{12,18}}\d(?![\w.])")
KINDS = ("email", "card", "key")

# A search holds the interpreter's lock to its end: long texts are looked through piece by piece, cut where nothing of
# the above can go on.
PIECE_CHARACTERS = 16 << 10
_CUT = re.compile(r"[^\w.+@ -]")


class Redactor:
    """Puts `[email]`, `[card]`, `[key]` in the place of what is one."""

    def __init__(self, kinds: Sequence[str]) -> None:
        """`kinds` of KINDS."""
        self._kinds = frozenset(kinds)

    def __call__(self, text: str) -> str:
        if "key" in self._kinds:
            text = _without_private_keys(text)
        if self._kinds:
            text = "".join(map(self._without_kinds, _pieces(text)))
        return text

    def _without_kinds(self, text: str) -> str:
        if "key" in self._kinds:
            text = _KEY.sub("[key]", text)
        if "email" in self._kinds and "@" in text:
            text = _EMAIL.sub("[email]", text)
        if "card" in self._kinds:
            text = _DIGITS.sub(lambda found: "[card]" if _is_card(found[0]) else found[0], text)
        return text


def _pieces(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > 2 * PIECE_CHARACTERS:
        cut = _CUT.search(text, start + PIECE_CHARACTERS, start + 2 * PIECE_CHARACTERS)
        end = cut.start() if cut else start + 2 * PIECE_CHARACTERS
        yield text[start:end]
        start = end
    yield text[start:]


def _without_private_keys(text: str) -> str:
    """PEM blocks. One without an end is none."""
    kept, start, begin, end = list[str](), 0, text.find(_BEGIN), -1
    while begin >= 0:
        if end < begin and (end := text.find(_END, begin)) < 0:
            break
        named = _PRIVATE.match(text, begin + len(_BEGIN))
        closed = _PRIVATE.match(text, end + len(_END))
        if named and closed:
            kept += [text[start:begin], "[key]"]
            start = closed.end()
        begin = text.find(_BEGIN, max(start, begin + 1))
    return "".join((*kept, text[start:]))


def _is_card(text: str) -> bool:
    """ISO/IEC 7812-1: the sum of the digits, every second one doubled, ends in 0."""
    digits = [int(char) for char in text if char.isdigit()]
    doubled = (digit if place % 2 == 0 else sum(divmod(2 * digit, 10)) for place, digit in enumerate(reversed(digits)))
    return sum(doubled) % 10 == 0
