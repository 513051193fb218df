"""Requests signed with an AWS key, by AWS's own library: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html

The library takes 0.2 s to load, so it is an extra that is imported where a provider is configured for it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from llmctl.domain.errors import ConfigError

SERVICE = "bedrock"


class Signer:
    """Signs with one key, for one region. No repr of its own, so none that shows the key."""

    def __init__(self, credential: str, region: str) -> None:
        """`credential`: ACCESS_KEY_ID:SECRET_ACCESS_KEY, and :SESSION_TOKEN of a temporary one. Raises ConfigError."""
        parts = credential.split(":")
        if len(parts) not in (2, 3) or not all(parts):
            hint = "it holds ACCESS_KEY_ID:SECRET_ACCESS_KEY, or these and :SESSION_TOKEN"
            raise ConfigError('the credential of a provider with auth = "sigv4" is no AWS key', hint=hint)
        try:
            auth, self._request = import_module("botocore.auth"), import_module("botocore.awsrequest").AWSRequest
            key = import_module("botocore.credentials").Credentials(*parts)
        except ImportError:
            raise ConfigError(
                'auth = "sigv4" needs botocore, which is not installed', hint="pip install 'llmctl[bedrock]'"
            ) from None
        self._auth: Any = auth.SigV4Auth(key, SERVICE, region)

    def headers(self, method: str, url: str, body: bytes) -> dict[str, str]:
        """Those that sign this request."""
        request = self._request(method=method, url=url, data=body)
        self._auth.add_auth(request)
        return dict(request.headers.items())
