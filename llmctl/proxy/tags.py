"""Tags that a caller puts on a call, for reports: `x-llmctl-tags: team=search, nightly`."""

from __future__ import annotations

import re

from multidict import CIMultiDictProxy, istr

from llmctl.domain.errors import Refused

TAGS = istr("x-llmctl-tags")
TAGS_MAX = 10
_TAG = re.compile(r"[A-Za-z0-9._:/=@+-]{1,64}")
JOINED_MAX = 200  # characters; what the ledger takes


def tags_of(headers: CIMultiDictProxy[str]) -> str:
    """In order, each once, joined by commas; "" where there are none. Raises Refused: what is dropped in silence is
    missed when the month is over."""
    text = headers.get(TAGS)
    if text is None:
        return ""
    tags = sorted({tag.strip() for tag in text.split(",") if tag.strip()})
    joined = ",".join(tags)
    if len(tags) > TAGS_MAX or len(joined) > JOINED_MAX or not all(_TAG.fullmatch(tag) for tag in tags):
        raise Refused(
            "bad_request",
            f"{TAGS} is not usable",
            hint=f"send at most {TAGS_MAX} tags of letters, digits and ._:/=@+- with commas between",
        )
    return joined
