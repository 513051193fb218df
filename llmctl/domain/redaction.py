"""What is taken out of prompts and answers before they are kept."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .errors import BadInput

_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
# Beginnings that say what a secret is: OpenAI's and ours, AWS's, GitHub's, Google's, Slack's, a private key, a JWT.
_KEY = re.compile(
    r"\b(?:sk-[\w-]{16,}|(?:AKIA|ASIA)[0-9A-Z]{16}|gh[pousr]_\w{20,}|AIza[\w-]{30,}|xox[abprs]-[\w-]{10,}"
    r"|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*)"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----",
    re.DOTALL,
)
_DIGITS = re.compile(r"(?<![\w.])(?:\d[ -]?){12,18}\d(?![\w.])")
KINDS = ("email", "card", "key")


class Redactor:
    """Puts `[email]`, `[card]`, `[key]` in the place of what is one, `[redacted]` in that of own patterns."""

    def __init__(self, kinds: Sequence[str], patterns: Sequence[str] = ()) -> None:
        """`kinds` of KINDS. Raises BadInput: a pattern that is none."""
        self._kinds = frozenset(kinds)
        try:
            self._patterns = [re.compile(pattern) for pattern in patterns]
        except re.error as error:
            raise BadInput(f"{error.pattern!r} is no regular expression: {error}") from None

    def __call__(self, text: str) -> str:
        if "key" in self._kinds:
            text = _KEY.sub("[key]", text)
        if "email" in self._kinds:
            text = _EMAIL.sub("[email]", text)
        if "card" in self._kinds:
            text = _DIGITS.sub(lambda found: "[card]" if _is_card(found[0]) else found[0], text)
        for pattern in self._patterns:
            text = pattern.sub("[redacted]", text)
        return text


def _is_card(text: str) -> bool:
    """ISO/IEC 7812-1: the sum of the digits, every second one doubled, ends in 0."""
    digits = [int(char) for char in text if char.isdigit()]
    doubled = (digit if place % 2 == 0 else sum(divmod(2 * digit, 10)) for place, digit in enumerate(reversed(digits)))
    return sum(doubled) % 10 == 0
