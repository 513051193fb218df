"""Client secrets: made here, shown once, kept as hashes."""

from __future__ import annotations

import hashlib
import secrets
import zlib

PREFIX = "sk-llmctl-"  # recognised by secret scanners
RANDOM_CHARS = 43  # 62^43 > 2^256
CHECKSUM_CHARS = 6  # 62^6 > 2^32
SECRET_CHARS = len(PREFIX) + RANDOM_CHARS + CHECKSUM_CHARS
SHOWN_CHARS = len(PREFIX) + 6  # enough to recognise a leaked secret by, far too little to use it

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def new_secret() -> str:
    random = random_text(_ALPHABET, RANDOM_CHARS)
    return f"{PREFIX}{random}{_checksum(random)}"


def random_text(alphabet: str, length: int) -> str:
    """Every character as likely as any other; a twentieth of the time that choosing each by itself takes."""
    size = len(alphabet)
    whole = 256 - 256 % size  # bytes beyond would make the first characters likelier
    text = ""
    while len(text) < length:
        text += "".join([alphabet[byte % size] for byte in secrets.token_bytes(length) if byte < whole])
    return text[:length]


def well_formed(secret: str) -> bool:
    """False for typing errors and for keys that were never ours, without looking into the database."""
    if len(secret) != SECRET_CHARS or not secret.startswith(PREFIX):
        return False
    random = secret[len(PREFIX) : -CHECKSUM_CHARS]
    return secret[-CHECKSUM_CHARS:] == _checksum(random)


def hash_of(secret: str) -> bytes:
    """SHA-256: 256 random bits cannot be guessed, so a slow hash would only slow down every call."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def shown(secret: str) -> str:
    return secret[:SHOWN_CHARS]


def _checksum(random: str) -> str:
    value = zlib.crc32(random.encode("utf-8", "surrogatepass"))
    text = ""
    for _ in range(CHECKSUM_CHARS):
        value, digit = divmod(value, len(_ALPHABET))
        text = _ALPHABET[digit] + text
    return text
