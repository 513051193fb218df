"""A service account of Google's, made up."""

from __future__ import annotations

import json
from functools import cache

from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


@cache
def _pem() -> str:
    key = generate_private_key(65_537, 2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def key_file(token_url: str) -> str:
    """What Google's console gives out, as far as it matters."""
    return json.dumps(
        {
            "type": "service_account",
            "project_id": "project",
            "private_key_id": "key-1",
            "private_key": _pem(),
            "client_email": "gateway@project.iam.gserviceaccount.com",
            "token_uri": token_url,
        },
        indent=2,
    )
