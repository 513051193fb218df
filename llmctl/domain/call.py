"""One call as data: what was asked, and what was read from the answer. Dialects make these, the proxy uses them.

Both are made for every call: as structs, which takes a fifth of the time that tuples with names take.
"""

from __future__ import annotations

from msgspec import Struct

from .usage import Usage


class Ask(Struct, frozen=True, gc=False):
    """The facts of a request that access, limits and the worst case depend on. Read once, strictly, by a dialect."""

    endpoint: str  # "chat.completions", "messages", ...
    model: str  # the request model, as asked
    stream: bool
    input_bytes: int
    output_tokens_max: int | None = None  # the client's own maximum, in whichever field
    output_multiplier: int = 1  # n, best_of, candidateCount, prompts in a list
    output_tokens_floor: int = 0  # below this the call is senseless: a thinking budget that must fit
    generates: bool = True  # False: there is no output to bound (embeddings)
    free: bool = False  # the provider bills nothing for it (token counting)
    free_models: tuple[str, ...] = ()  # nor, with an upstream model whose name begins so
    unbounded_input: str = ""  # why bytes do not bound the input: "images", "a stored response", ...; "" = they do
    images: int = 0  # those whose bytes are known, where they alone are why
    image_bytes: int = 0  # of the body
    inputs: int = 1  # how many may fill the context window, each for itself, where bytes do not bound them (embeddings)
    server_tool_turns: int = 0  # each turn of a server-side tool bills the input again
    image_tool_tokens: int = 0  # of one image, at most, if one of those tools makes images
    service_tier: str = ""  # as asked; the answer says what was served
    cache_write_ttl: str = ""  # "", "5m", "1h": cache writes that the request asks for
    wants_usage: bool = True  # a stream: did the client ask for the usage chunk?
    media_input: bool = False  # audio or images are read, beside what `unbounded_input` says
    media_output: bool = False  # audio or images may be answered, beside what `unbounded_input` says
    units: tuple[tuple[str, int], ...] = ()  # what is billed by another unit than tokens: meter and how many at most
    extras: tuple[tuple[str, int], ...] = ()  # the same of what some providers bill beside tokens
    output_fixed: bool = False  # no field of the request lowers how much is generated
    guess: Usage | None = None  # what it probably uses, for an answer that does not say; None: its text is counted
    end_user: str = ""  # as the body names it; counts only for keys that act for end users
    continues: str = ""  # the id of the stored response that it goes on from
    refers_to: tuple[str, ...] = ()  # ids of what is in the caller's stored answers: items, containers, spoken answers
    mentions: tuple[str, ...] = ()  # ids of what may be in stored answers, and then in the caller's own
    stores: bool = False  # the provider keeps the answer, and gives it out by its id
    background: bool = False  # the answer may be only an id, and the rest be made later


class Reading(Struct, frozen=True, gc=False):
    """What a dialect read from an answer. `usage is None`: the provider reported none."""

    usage: Usage | None = None
    raw_usage: bytes = b""  # the provider's own usage object, as it came (JSON)
    response_model: str = ""
    service_tier: str = ""  # as served
    reported_cost_nano_usd: int | None = None  # the provider's own statement of the money
    refused_unbilled: bool = False  # it refused before it said anything: who made the model bills nothing for that
    error: str = ""  # an error inside a 200: its type or code
    finished: bool = False  # the dialect's own end mark was seen (or the body was complete)
    output_text: str = ""  # what was seen of the output, for an estimate; empty when usage was reported for all of it
    output_seen_share: float = 1.0  # output_text covers this share of the stream's events
    object_id: str = ""  # by which the provider gives the answer out again, if it keeps it
    status: str = ""  # of such an answer: queued, in_progress, completed, ...
    part_ids: tuple[str, ...] = ()  # by which later requests can refer to what is in it

    @property
    def is_short(self) -> bool:
        """No usage was stated, or only that of a part: what was seen of the output has to stand in. Anthropic's streams
        open with a usage that says 1 output token, others state what it was so far."""
        return self.usage is None or bool(self.output_text)

    @property
    def goes_on(self) -> bool:
        """The provider works on it still: what it has used is not known yet."""
        return self.status in ("queued", "in_progress")
