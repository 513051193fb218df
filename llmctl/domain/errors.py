"""What can go wrong, as codes. `proxy/errors.py` alone knows HTTP; `cli/` alone knows exit codes.

LlmctlError
├── BadInput              an admin's or a client's value that cannot be used
│   └── DoesNotFit        one that could be, were something else stored
├── NotFound              a name that is not there
├── AlreadyExists         a name that is taken
├── HasMembers            a group that cannot go while somebody is in it
├── ConfigError           config.toml: names file, line, key and what to write
├── StoreError
│   ├── StoreUnavailable  busy, disk full: try again
│   ├── StoreBroken       corrupt, I/O error: stop
│   └── SchemaMismatch    the file belongs to another version of llmctl
└── Refused               a call that is not let through (codes in REFUSALS)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .why import Looked


class LlmctlError(Exception):
    """Base of all errors that llmctl raises on purpose.

    `message` says what is wrong, `hint` what to do about it (may be empty), `code` is stable.
    """

    code = "error"

    def __init__(self, message: str, *, hint: str = "", code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class BadInput(LlmctlError):
    code = "bad_input"


class DoesNotFit(BadInput):
    code = "does_not_fit"


class NotFound(LlmctlError):
    code = "not_found"


class AlreadyExists(LlmctlError):
    code = "already_exists"


class HasMembers(LlmctlError):
    code = "has_members"


class ConfigError(LlmctlError):
    code = "bad_config"


class StoreError(LlmctlError):
    code = "database_error"


class StoreUnavailable(StoreError):
    """The database cannot take writes right now (locked, disk full, read-only); it may recover by itself."""

    code = "database_unavailable"


class StoreBroken(StoreError):
    """The file is corrupt or its device fails: nothing more may be admitted."""

    code = "database_broken"


class SchemaMismatch(StoreError):
    code = "database_schema"


class Refused(LlmctlError):
    """A call that is not let through. `code` is one of REFUSALS; `facts` are the numbers behind the message."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        hint: str = "",
        retry_after_s: float | None = None,
        param: str | None = None,
        facts: Mapping[str, object] | None = None,
    ) -> None:
        assert code in REFUSALS, code
        super().__init__(message, hint=hint, code=code)
        self.retry_after_s = retry_after_s
        self.param = param
        self.facts = dict(facts or {})
        self.looked: Sequence[Looked] = ()  # the limits that were looked at, where the ledger decided


# One line per case of the outside contract. `proxy/errors.py` maps each to HTTP.
REFUSALS = frozenset(
    {
        "invalid_api_key",
        "address_not_allowed",
        "model_not_allowed",
        "model_unpriced",
        "model_not_found",
        "path_not_found",
        "object_not_found",
        "previous_response_not_found",
        "method_not_allowed",
        "not_supported",
        "limit_spent",
        "limit_held",
        "rate_limited",
        "request_exceeds_limit",
        "bad_request",
        "body_too_large",
        "body_timeout",
        "database_unavailable",
        "shutting_down",
        "overloaded",
        "provider_unreachable",
        "provider_failed",
        "provider_credential",
        "provider_timeout",
        "internal_error",
    }
)
