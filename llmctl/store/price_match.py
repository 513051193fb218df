"""Which upstream models a price is for: a clause, as JSON, in the form of genai-prices, and `glob`.

    {"equals": "gpt-5"}  {"starts_with": ..}  {"ends_with": ..}  {"contains": ..}  {"regex": ..}
    {"glob": "gpt-5*"}  {"or": [clause, ..]}  {"and": [clause, ..]}

Letter case never counts: as in genai-prices, the model is lowered first and a regex sees the lowered text.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from functools import lru_cache

DEPTH_MAX = 8
BAD_REGEX = "a regex that is broken or could run too long"
REGEX_CHARS_MAX = 200
# Backtracking grows with the power of a pattern's loops; two over a 200-character name take milliseconds.
REGEX_LOOPS_MAX = 2
REGEX_OPTIONALS_MAX = 4

# Flags (a verbose regex hides its loops behind blanks), named groups, conditions; references back.
_UNUSUAL = re.compile(r"\(\?[^:=!<]|\\[1-9]")
_ESCAPED = re.compile(r"\\.")
_CHARACTER_CLASS = re.compile(r"\[\^?\]?[^\]]*\]")
_EXACT_REPEAT = re.compile(r"\{\d{1,3}\}")
_LOOP = re.compile(r"[*+{]")


def matches(clause: object, model: str) -> bool:
    """True if the clause is for this model. A clause that is not well formed matches nothing."""
    return _matches(clause, model.lower(), DEPTH_MAX)


def problem(clause: object, depth: int = DEPTH_MAX) -> str:
    """Why a clause cannot be used, in words; "" if it can."""
    if not isinstance(clause, dict) or len(clause) != 1:
        return "a clause is an object of one key"
    ((kind, value),) = clause.items()
    if kind in ("or", "and"):
        if depth == 0 or not isinstance(value, list) or not value:
            return f'"{kind}" takes a list of clauses, nested at most {DEPTH_MAX} deep'
        return next(filter(None, (problem(item, depth - 1) for item in value)), "")
    if not isinstance(value, str) or not value:
        return f'"{kind}" takes a text'
    if kind == "regex":
        return "" if _compiled(value) is not None else f"{BAD_REGEX}: {value[:REGEX_CHARS_MAX]!r}"
    if kind not in ("equals", "starts_with", "ends_with", "contains", "glob"):
        return f"no clause is called {kind!r}"
    return ""


def _matches(clause: object, model: str, depth: int) -> bool:
    if not isinstance(clause, dict) or len(clause) != 1:
        return False
    ((kind, value),) = clause.items()
    if isinstance(value, list):
        if depth == 0 or not value or kind not in ("or", "and"):
            return False
        every = all if kind == "and" else any
        return every(_matches(item, model, depth - 1) for item in value)
    if not isinstance(value, str):
        return False
    if kind == "regex":
        pattern = _compiled(value)
        return pattern is not None and pattern.search(model) is not None
    text = value.lower()
    if kind == "equals":
        return model == text
    if kind == "starts_with":
        return model.startswith(text)
    if kind == "ends_with":
        return model.endswith(text)
    if kind == "contains":
        return text in model
    if kind == "glob":
        # Only * and ? are wildcards: names like grok-4.7[fast=true] exist.
        return fnmatchcase(model, text.replace("[", "[[]"))
    return False


@lru_cache(maxsize=1024)
def _compiled(text: str) -> re.Pattern[str] | None:
    """The pattern, or None if it is broken or could backtrack for long. A file for `price sync` may bring
    any.
    """
    if len(text) > REGEX_CHARS_MAX or _UNUSUAL.search(text):
        return None
    plain = _CHARACTER_CLASS.sub("c", _ESCAPED.sub("e", text))
    plain = _EXACT_REPEAT.sub("", plain).replace("(?", "(")
    repeated_group = re.search(r"\)[*+{]", plain) is not None
    if repeated_group or len(_LOOP.findall(plain)) > REGEX_LOOPS_MAX or plain.count("?") > REGEX_OPTIONALS_MAX:
        return None
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError):
        return None
