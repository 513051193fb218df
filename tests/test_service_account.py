"""Google's service accounts: what is signed, and what is said of a file that is none."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from llmctl.config.credentials.service_account import read_account
from llmctl.config.credentials.source import CredentialSource
from llmctl.domain.errors import ConfigError
from tests.support.service_account import key_file

NOW_S = 1_900_000_000


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def test_what_is_posted_is_signed_and_good_for_an_hour() -> None:
    text = key_file("https://oauth2.googleapis.com/token")
    grant = read_account(text, "key.json").grant()
    assert (grant.url, grant.authority) == ("https://oauth2.googleapis.com/token", "oauth2.googleapis.com")
    form = parse_qs(grant.form(NOW_S).decode())
    assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
    head, claims, signature = form["assertion"][0].split(".")
    assert json.loads(decoded(head)) == {"alg": "RS256", "typ": "JWT", "kid": "key-1"}
    assert json.loads(decoded(claims)) == {
        "iss": "gateway@project.iam.gserviceaccount.com",
        "scope": "https://www.googleapis.com/auth/cloud-platform",
        "aud": "https://oauth2.googleapis.com/token",
        "iat": NOW_S,
        "exp": NOW_S + 3600,
    }
    public = load_pem_private_key(json.loads(text)["private_key"].encode(), None).public_key()
    assert isinstance(public, RSAPublicKey)
    public.verify(decoded(signature), f"{head}.{claims}".encode(), PKCS1v15(), SHA256())


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "is not the key file"),
        ("AIza-an-api-key", "is not the key file"),
        ("[]", "is not the key file"),
        ('{"type": "authorized_user", "refresh_token": "secret"}', "is not the key file"),
        ('{"client_email": "a", "private_key": "secret", "token_uri": "https://x/token"}', "holds no private key"),
        ('{"client_email": "a", "private_key": "secret", "token_uri": "file:///x"}', "its token_uri is no address"),
    ],
)
def test_what_is_no_key_file_is_named_without_what_is_in_it(tmp_path: Path, text: str, what: str) -> None:
    file = tmp_path / "key.json"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        CredentialSource(file=str(file), service_account=True).grant()
    assert what in str(caught.value)
    assert str(file) in str(caught.value)
    assert "secret" not in str(caught.value)


def test_no_secret_shows_itself() -> None:
    account = read_account(key_file("https://x/token"), "key.json")
    assert "PRIVATE" not in repr(account) + repr(account.grant())
    assert "gateway@" not in repr(account)
