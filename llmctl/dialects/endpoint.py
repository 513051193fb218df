"""What a path means, and one that was called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from ..domain.call import Reading
from .base import Dialect
from .request import Request
from .wire.multipart import Form

LATER = "is not metered yet, so it is not passed on"
_PLAIN_IN_PATHS = "/:@~"  # beside letters, digits and _.-

ReadForm = Callable[[str, Form, str], Request]  # endpoint, form, and the model where the path names it
# free: passed on, costs nothing; object: free too, of something that a provider keeps, and goes where that is kept;
# local: answered here
Kind = Literal["metered", "free", "object", "local", "refused"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a path means. `upstream` follows the provider's base URL, which ends in its version ("…/v1"); `{model}` in
    it is the upstream model, `{deployment}` the same as one step of a path, `{id}` the client's. `query`: the
    parameters that pass ("name", or "name=value" for that value alone), all others do not. `why`: for refused ones,
    what to tell the client. `ask_headers`, `answer_headers`: where facts that decide money stand in headers too, what
    adds them to a request and to a reading. `read_form`: reads requests that come as forms; `form_only`: all do."""

    dialect: Dialect
    name: str
    kind: Kind
    methods: tuple[str, ...]
    upstream: str = ""
    query: tuple[str, ...] = ()
    why: str = ""
    ask_headers: Callable[[Request, Mapping[str, str]], Request] | None = None
    answer_headers: Callable[[Reading, Mapping[str, str]], Reading] | None = None
    read_form: ReadForm | None = None
    form_only: bool = False


@dataclass(frozen=True, slots=True)
class Match:
    """An endpoint that was called; `model`, `id`: those that the path names; `query`: what passes of the client's."""

    endpoint: Endpoint
    model: str = ""
    id: str = ""
    query: str = ""

    @property
    def streams(self) -> bool:
        """Asked for as a stream by its query, where others say so in their body."""
        return "stream=true" in self.query

    def target(self, model: str) -> str:
        """Path and query below a provider's base URL, for this upstream model."""
        upstream = self.endpoint.upstream
        if "{" in upstream:
            names = {"model": quote(model, safe=_PLAIN_IN_PATHS), "deployment": quote(model, safe=""), "id": self.id}
            upstream = upstream.format_map(names)
        return upstream + self.query


def refused(dialect: Dialect, name: str, why: str) -> Endpoint:
    return Endpoint(dialect, name, "refused", (), why=why)
