"""Text in, text out: what the sandbox says, how long, and what it counts. Deterministic."""

from __future__ import annotations

import codecs
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from llmctl import tokenizer
from llmctl.tokenizer import ChatText

from .errors import SandboxError
from .models import SandboxModel

INTRODUCTION: Final = "This is the llmctl sandbox, no provider was called."
ECHO_CHARS_MAX: Final = 400  # enough to recognise one's own question
WORDS_MAX: Final = 5_000  # what a client can make us say with one short line
FILLER: Final = (
    "Your key was checked, the model was allowed, and the limits had room for this call. "
    "Its tokens were counted and booked as those of a real one would be. "
    "Put a provider's credential into the configuration and a real model answers here. "
)

_WISH: Final = re.compile(r"\b(\d{1,6}) words?\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a chat."""

    role: str
    texts: Sequence[str]
    name: str = ""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a request says, whatever its dialect."""

    said: str  # the user's last words, for the echo
    input_tokens: int


@dataclass(frozen=True, slots=True)
class Answer:
    """`tokens` is what tiktoken counts for `text`; `pieces` are those tokens as text."""

    text: str
    pieces: tuple[str, ...]
    tokens: int
    finish: Literal["end", "length", "stop"]
    stop: str | None = None


def read_chat(turns: Sequence[Turn], tools: Iterable[str], model: str) -> Prompt:
    """The prompt of a chat. Tools are counted as the JSON that they came as."""
    said = [text for turn in turns if turn.role == "user" for text in turn.texts if text.strip()]
    messages = [ChatText(turn.role, "".join(turn.texts), turn.name) for turn in turns]
    tokens = tokenizer.count_chat(messages, model) + sum(tokenizer.count(tool, model) for tool in tools)
    return Prompt(said[-1] if said else "", tokens)


def check_context(prompt: Prompt, model: SandboxModel) -> None:
    if prompt.input_tokens >= model.context_window_tokens:
        raise SandboxError(
            "context_overflow",
            f"prompt is too long: {prompt.input_tokens} tokens; "
            f"the context window of {model.name} is {model.context_window_tokens} tokens.",
        )


def answer(prompt: Prompt, model: SandboxModel, output_tokens_max: int | None, stops: Sequence[str] = ()) -> Answer:
    """What the sandbox says: at most `output_tokens_max` tokens, and at most what the model can."""
    check_context(prompt, model)
    room = min(model.output_tokens_max, model.context_window_tokens - prompt.input_tokens)
    if output_tokens_max is not None:
        room = min(room, output_tokens_max)
    text, stop = _cut_at_stop(_compose(prompt.said), stops)
    tokens = tokenizer.encode(text, model.name)
    if len(tokens) <= room:
        return _answer(text, tokens, model, "end" if stop is None else "stop", stop)
    text, tokens = _shorten(tokens, room, model)
    return _answer(text, tokens, model, "length")


def _answer(
    text: str,
    tokens: list[int],
    model: SandboxModel,
    finish: Literal["end", "length", "stop"],
    stop: str | None = None,
) -> Answer:
    # A character can be spread over several tokens; a client must only ever get whole ones.
    decoder = codecs.getincrementaldecoder("utf-8")()
    pieces = (decoder.decode(token) for token in tokenizer.token_bytes(tokens, model.name))
    return Answer(text, tuple(piece for piece in pieces if piece), len(tokens), finish, stop)


def _compose(said: str) -> str:
    said = said.strip()
    echo = said if len(said) <= ECHO_CHARS_MAX else said[:ECHO_CHARS_MAX] + " ..."
    text = f"{INTRODUCTION} You said: {echo}" if said else f"{INTRODUCTION} You said nothing."
    wish = _WISH.search(echo)
    missing = min(int(wish[1]), WORDS_MAX) - len(text.split()) if wish else 0
    if missing > 0:
        text += "\n\n" + " ".join(itertools.islice(itertools.cycle(FILLER.split()), missing))
    return text


def _cut_at_stop(text: str, stops: Sequence[str]) -> tuple[str, str | None]:
    found = [(text.find(stop), stop) for stop in stops if stop and stop in text]
    if not found:
        return text, None
    at, stop = min(found)
    return text[:at], stop


def _shorten(tokens: list[int], room: int, model: SandboxModel) -> tuple[str, list[int]]:
    """The longest start of a text that is whole characters and, counted anew, at most `room` tokens."""
    for length in range(room, 0, -1):
        text = b"".join(tokenizer.token_bytes(tokens[:length], model.name)).decode("utf-8", errors="ignore")
        counted = tokenizer.encode(text, model.name)
        if len(counted) <= room:
            return text, counted
    return "", []
