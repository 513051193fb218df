"""What is taken out of prompts and answers before they are kept."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

# Each of these reads a text once, whatever is in it: it starts where a word does, and gives nothing back that it took.
# In code, and in JSON that a text quotes, a line break is written out: its letter belongs to no word.
_BROKEN = r"(?<=\\[nrt])"
_EMAIL = re.compile(rf"(?:{_BROKEN}|(?<![\w.+-])(?!(?<=\\)[nrt]))[\w.+-]++@[\w-]++(?:\.[\w-]++)++")
# Beginnings that say what a secret is. Where names begin so too (xai-grok-4), what follows has to be one long word.
_KEYS = (
    r"sk-[\w-]{16,}",  # OpenAI, Anthropic, ours, many others
    r"gsk_[A-Za-z0-9]{20,}",  # Groq
    r"xai-[A-Za-z0-9]{20,}",
    r"pplx-[A-Za-z0-9]{20,}",  # Perplexity
    r"nvapi-[\w-]{20,}",
    r"hf_[A-Za-z0-9]{30,}",  # Hugging Face
    r"r8_[A-Za-z0-9]{30,}",  # Replicate
    r"fw_[A-Za-z0-9]{20,}",  # Fireworks
    r"tgp_v1_[\w-]{30,}",  # Together
    r"AIza[\w-]{30,}",  # Google
    r"ya29\.[\w-]{16,}",  # its access tokens
    r"A[KS]IA[0-9A-Z]{16}",  # AWS
    r"ABSK[\w+/=]{40,}",  # Bedrock
    r"gh[pousr]_\w{20,}",  # GitHub
    r"github_pat_\w{20,}",
    r"glpat-[\w.-]{20,}",  # GitLab
    r"npm_[A-Za-z0-9]{30,}",
    r"[rs]k_(?:live|test)_[A-Za-z0-9]{16,}",  # Stripe
    r"xox[abprs]-[\w-]{10,}",  # Slack
    r"(?<!-)eyJ[\w-]{10,}+\.[\w-]{10,}+\.[\w-]*+",  # a JWT
)
KEY = re.compile(rf"(?:{_BROKEN}|\b)(?:{'|'.join(_KEYS)})")
_BEGIN, _END = "-----BEGIN ", "-----END "
_PRIVATE = re.compile(r"[A-Z ]{0,20}PRIVATE KEY-----")
_DIGITS = re.compile(rf"(?:{_BROKEN}|(?<![\w.]))(?:\d[ -]?){{12,18}}\d(?![\w.])")
KINDS = ("email", "card", "key")

# A search holds the interpreter's lock to its end: long texts are looked through piece by piece, cut where nothing of
# the above can go on.
PIECE_CHARACTERS = 16 << 10
_CUT = re.compile(r"[^\w.+@/= -]")


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
            text = KEY.sub("[key]", text)
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
