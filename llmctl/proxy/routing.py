"""What follows an attempt that brought no answer: another credential, what stands in for the model, or nothing."""

from __future__ import annotations

from collections.abc import Sequence

from llmctl.config import Config, Provider

from .attempts import FIRST, Attempt, Failure
from .call import Call
from .credentials import REFUSED_REST_S
from .directory import Directory
from .upstream import Upstream


class Routing:
    """Knows which credentials rest, and which models stand in for which."""

    def __init__(self, config: Config, directory: Directory, upstream: Upstream) -> None:
        self._retries = config.retries
        self._directory = directory
        self._upstream = upstream

    def first(self, model: str, dialect: str) -> Attempt:
        """Where to begin: what was asked for, or what stands in for it while all its provider's credentials rest.
        Raises Refused: the model does not exist."""
        provider, upstream_model = self._directory.route(model, dialect)
        if self._upstream.credentials(provider).all_rest:
            stand_ins = self._directory.stand_ins(model, provider, upstream_model)
            return self._stand_in(stand_ins, FIRST, dialect) or FIRST
        return FIRST

    def following(self, call: Call, failure: Failure) -> Attempt | None:
        """The attempt after one that failed so; None: what the provider said goes to the client."""
        provider, attempt = call.plan.provider, call.attempt
        if failure.why == "option":
            first_id = attempt.first_id or call.id
            return attempt._replace(number=attempt.number + 1, first_id=first_id, without_option=True)
        self._note(provider, failure)
        if call.plan.stored is not None:
            return None  # what it is about or goes on from is there, and nowhere else
        if failure.billable and not self._retries.after_timeout:
            return None
        if attempt.number >= self._retries.attempts_max:
            return None
        tried = attempt.tried | {failure.credential}
        again = Attempt(attempt.model, attempt.place, attempt.number + 1, tried, attempt.first_id or call.id)
        if self._upstream.credentials(provider).has_another(tried):
            return again
        model, dialect = call.asked.ask.model, call.endpoint.dialect.name
        stand_ins = self._directory.stand_ins(model, *self._directory.route(model, dialect))
        return self._stand_in(stand_ins, again, dialect)

    def _stand_in(self, stand_ins: Sequence[str], attempt: Attempt, dialect: str) -> Attempt | None:
        for place in range(attempt.place, len(stand_ins)):
            if self._is_possible(stand_ins[place], dialect):
                return attempt._replace(model=stand_ins[place], place=place + 1, tried=frozenset())
        return None

    def _is_possible(self, model: str, dialect: str) -> bool:
        """Only what speaks the client's dialect can stand in, and only what is not resting itself is worth asking."""
        provider = self._directory.speaker(model, dialect)
        return provider is not None and not self._upstream.credentials(provider).all_rest

    def _note(self, provider: Provider, failure: Failure) -> None:
        credentials = self._upstream.credentials(provider)
        if failure.why == "forbidden":
            return  # it may serve others, and other models
        if failure.why == "credential":
            credentials.rest(failure.credential, REFUSED_REST_S)
        elif failure.retry_after_s is not None:
            credentials.rest(failure.credential, failure.retry_after_s)
        else:
            credentials.failed(failure.credential)
