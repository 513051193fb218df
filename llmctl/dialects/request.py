"""A request as read: the facts that decisions depend on, and the way to the body that goes upstream."""

from __future__ import annotations

import hashlib

import msgspec
from msgspec import Struct

from ..domain.call import Ask
from ..domain.errors import Refused
from .wire.edits import Edits
from .wire.fields import Fields, bad_request
from .wire.multipart import FormField

MODEL_CHARACTERS_MAX = 200
TIER_CHARACTERS_MAX = 64
END_USER_CHARACTERS_MAX = 64  # longer ones are hashed

Path = tuple[str, ...]


class Request(Struct, frozen=True, gc=False):
    """One request. `outputs`: the output maxima that the body sets, by path; `usage_path`: the option that makes a
    stream report usage, where the endpoint has one; `model_in_body`: False where the path names the model;
    `output_path`: where an output maximum is set if there is none, whatever the provider; `model_places`: where else
    the body names the model: from, to, and what its name begins with; `model_field`: that of a form, whose bytes are
    kept elsewhere."""

    ask: Ask
    body: bytes
    fields: Fields
    outputs: tuple[tuple[Path, int], ...] = ()
    usage_path: Path = ()
    model_in_body: bool = True
    output_path: Path = ()
    model_places: tuple[tuple[int, int, str], ...] = ()
    model_field: FormField | None = None

    def form_edits(self, model: str) -> tuple[tuple[int, int, bytes], ...]:
        """What to change in a form: from, to, and what then stands there."""
        if model == self.ask.model or not self.model_in_body or self.model_field is None:
            return ()
        return ((self.model_field.start, self.model_field.end, model.encode()),)

    def upstream_body(
        self,
        *,
        model: str | None = None,
        output_tokens_max: int | None = None,
        output_field: str = "max_tokens",
        inject_usage: bool = False,
    ) -> bytes:
        """The body to send; `self.body` itself when nothing changes, and then only the named values differ.

        `model`: the upstream's name for it. `output_tokens_max`: every maximum in the body above it is lowered; where
        there is none, it is set as `output_field` (dots lead into objects: "generationConfig.maxOutputTokens").
        """
        renamed = None if model == self.ask.model else model
        if renamed is None and output_tokens_max is None and not inject_usage:
            return self.body
        edits = Edits()
        if renamed is not None:
            if self.model_in_body:
                edits.put(self.fields, ("model",), msgspec.json.encode(renamed))
            for start, end, prefix in self.model_places:
                edits.replace(start, end, msgspec.json.encode(prefix + renamed))
        if output_tokens_max is not None:
            for path, value in self.outputs:
                if value > output_tokens_max:
                    edits.put(self.fields, path, b"%d" % output_tokens_max)
            if not self.outputs:
                path = self.output_path or tuple(output_field.split("."))
                edits.put(self.fields, path, b"%d" % output_tokens_max)
        if inject_usage and self.usage_path:
            edits.put(self.fields, self.usage_path, b"true")
        return edits.apply(self.fields.text, self.body)


def read_model(fields: Fields) -> str:
    model = fields.string("model")
    if not model:
        raise bad_request("the request names no model", hint='add "model": "NAME"', param="model")
    return check_model(model)


def check_model(model: str) -> str:
    if len(model) > MODEL_CHARACTERS_MAX or not model.isprintable() or " " in model:
        raise bad_request(
            f"model must be at most {MODEL_CHARACTERS_MAX} printable characters without blanks", param="model"
        )
    return model


def read_tier(fields: Fields) -> str:
    if "service_tier" not in fields.values:
        return ""
    return check_tier(fields.string("service_tier") or "", "service_tier")


def check_tier(tier: str, name: str) -> str:
    if len(tier) > TIER_CHARACTERS_MAX or not tier.isprintable():
        raise bad_request(f"{name} must be at most {TIER_CHARACTERS_MAX} printable characters", param=name)
    return tier


def thinking_floor(budget: int | None, output_tokens_max: int | None) -> int:
    """The least output maximum that leaves something for an answer where thoughts count towards it; 0: any does."""
    if not budget:
        return 0
    return budget + 1 if output_tokens_max is None else min(budget + 1, output_tokens_max)


def read_outputs(fields: Fields, names: frozenset[str]) -> tuple[tuple[Path, int], ...]:
    """The output maxima among `names` that are set."""
    if names.isdisjoint(fields.values):
        return ()
    outputs: tuple[tuple[Path, int], ...] = ()
    for name in fields.values:
        if name in names and (value := fields.integer(name)) is not None:
            outputs += (((name,), value),)
    return outputs


def end_user_id(name: str | None) -> str:
    """An end user's name as the ledger keeps it: itself, or its SHA-256 when it is long or has odd characters."""
    if not name or (len(name) <= END_USER_CHARACTERS_MAX and name.isprintable()):
        return name or ""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def advisor() -> Refused:
    """A tool that asks another model than the one that was judged."""
    return Refused(
        "not_supported",
        "an advisor is another model than the one that is asked, and is not metered",
        hint="leave the tool out",
        param="tools",
    )
