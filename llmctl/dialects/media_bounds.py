"""What images, speech and documents are billed with: at most, before a call, and probably, where its answer tells
nothing. Each figure names where it is from; those that no provider states are on the safe side.
"""

from __future__ import annotations

import re

# Image tokens by quality of 1024 x 1024 pixels. The dearest: gpt-image-2's, 7,024 at high quality, $0.053 and $0.006
# an image at medium and low (developers.openai.com/api/docs/guides/image-generation). The usual: gpt-image-1's, which
# the same page lists. Larger sizes cost less than in proportion. xhigh and max are nowhere listed: two and four highs.
_TOKENS_MAX = {"low": 500, "medium": 2_200, "high": 7_100, "xhigh": 14_200, "max": 28_400}
_TOKENS = {"low": 272, "medium": 1_056, "high": 4_160, "xhigh": 8_320, "max": 16_640}
_PIXELS = 1 << 20
_AUTO_SIZE = (1_536, 1_024)
_SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")
PARTIAL_IMAGE_TOKENS = 100  # each, beside the image: same page
PARTIAL_IMAGES_MAX = 100  # OpenAI sends 3
FRAMES_MAX = 16  # of an animated answer
SVG = "SVG is billed as the tokens of another model, and not metered yet"

# Text: no token has less than a byte; four characters are usual (help.openai.com, "What are tokens").
_BYTES_PER_TOKEN = 4

# Opus reaches down to 6 kbit/s (RFC 6716, section 2), and is the leanest of the formats that are taken. Silence costs a
# FLAC next to nothing, but its head says how long it is, as that of a WAV does. What is leaner all the same, or says
# less than it holds, settles above what was held, and is booked in full.
_BITS_PER_S_MIN = 6_000
# By ending, what such files usually have.
_BITS_PER_S = {"flac": 400_000, "m4a": 96_000, "mp4": 96_000, "ogg": 32_000, "opus": 32_000, "webm": 32_000}
_BITS_PER_S_USUAL = 128_000
_BITS_PER_S_MAX = 10_000_000  # 192,000 samples of 24 bits for two ears
_FLAC, _PCM = b"fLaC", 1
REMOTE_AUDIO_SECONDS_MAX = 4 * 3_600  # Mistral takes three hours: docs.mistral.ai/capabilities/audio_transcription
REMOTE_AUDIO_SECONDS = 600
# Ten audio tokens a second of what is heard (developers.openai.com/api/docs/guides/realtime-costs), twenty of what is
# spoken ($12 per million tokens, $0.015 a minute: the pricing page).
AUDIO_TOKENS_PER_S = 10
AUDIO_TOKENS_PER_S_MAX = 20
TRANSCRIBED_TOKENS_PER_S = 4  # 150 words a minute
TRANSCRIBED_TOKENS_PER_S_MAX = 12
_CHARACTERS_PER_S = 15
_SPOKEN_TOKENS_PER_S = 20
SPOKEN_TOKENS_PER_BYTE_MAX = 10  # half a second a byte: numbers, and a voice that was told to take its time

# A search unit is a query with up to 100 documents; longer ones count once for each 500 tokens: cohere.com/pricing
_DOCUMENTS_PER_UNIT = 100
_CHUNK_BYTES_MIN = 250

DOCUMENT_PAGES_MAX = 1_000  # docs.mistral.ai/capabilities/document_ai
BYTES_PER_PAGE = 100_000


def image_tokens(size: str, quality: str, *, dearest: bool) -> int:
    """Of one image that is made. A quality that is not known, or left to the model, is high."""
    table = _TOKENS_MAX if dearest else _TOKENS
    of_square = table.get(quality.lower(), table["high"])
    found = _SIZE.fullmatch(size)
    width, height = (int(found[1]), int(found[2])) if found else _AUTO_SIZE
    return max(of_square, _ceil(of_square * width * height, _PIXELS))


def text_tokens(size: int) -> int:
    return max(1, size // _BYTES_PER_TOKEN)


def audio_seconds_max(size: int, beginning: bytes = b"") -> int:
    """Of a file of so many bytes, where they begin so."""
    said = _seconds_said(size, beginning)
    if said is None and beginning.startswith(_FLAC):
        said = REMOTE_AUDIO_SECONDS_MAX
    return max(1, said or 0, _ceil(size * 8, _BITS_PER_S_MIN))


def audio_seconds(filename: str, size: int, beginning: bytes) -> int:
    """What a file of so many bytes probably is; of a WAV and of most FLAC, its head says it."""
    bits_per_s = _BITS_PER_S.get(filename.rpartition(".")[2].lower(), _BITS_PER_S_USUAL)
    said = _seconds_said(size, beginning)  # which may be anything
    if said is not None and _ceil(size * 8, _BITS_PER_S_MAX) <= said <= REMOTE_AUDIO_SECONDS_MAX:
        return max(1, said)
    return max(1, _ceil(size * 8, bits_per_s))


def _seconds_said(size: int, beginning: bytes) -> int | None:
    """By a FLAC's number of samples (0: its encoder did not know), https://www.rfc-editor.org/rfc/rfc9639#name-streaminfo,
    or a WAV's bytes a second."""
    if beginning.startswith(_FLAC) and len(beginning) >= 26:
        numbers = int.from_bytes(beginning[18:26], "big")
        samples_per_s, samples = numbers >> 44, numbers & (1 << 36) - 1
        return _ceil(samples, samples_per_s) if samples and samples_per_s else None
    if beginning.startswith(b"RIFF") and beginning[8:16] == b"WAVEfmt ":
        kind, channels = (int.from_bytes(beginning[at : at + 2], "little") for at in (20, 22))
        samples_per_s, bytes_per_s = (int.from_bytes(beginning[at : at + 4], "little") for at in (24, 28))
        if kind == _PCM:  # decoders go by the samples
            bytes_per_s = samples_per_s * channels * int.from_bytes(beginning[34:36], "little") // 8
        return _ceil(size, bytes_per_s) if bytes_per_s else None
    return None


def spoken_tokens(characters: int) -> int:
    return max(1, characters * _SPOKEN_TOKENS_PER_S // _CHARACTERS_PER_S)


def search_units(documents: int) -> int:
    return _ceil(documents, _DOCUMENTS_PER_UNIT)


def search_units_max(documents: int, size: int) -> int:
    return _ceil(documents + size // _CHUNK_BYTES_MIN, _DOCUMENTS_PER_UNIT)


def _ceil(dividend: int, divisor: int) -> int:
    return -(-dividend // divisor)
