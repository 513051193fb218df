"""Commands that people are told to paste. Names in them may come from whoever sends calls: a shell must see words."""

from __future__ import annotations

import shlex


def price_set(model: str) -> str:
    return f"llmctl price set {shlex.quote(model)} --input ... --output ..."
