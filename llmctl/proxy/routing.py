"""What follows an attempt that brought no answer: another credential, what stands in for the model, or nothing."""

from __future__ import annotations

from llmctl.config import Config, Provider
from llmctl.domain.principal import Caller

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

    def first(self, caller: Caller, model: str, dialect: str) -> Attempt:
        """Where to begin: what was asked for, or what stands in for it while all its provider's credentials rest. Who
        may not use the model is not helped out. Raises Refused: the model does not exist."""
        provider, upstream_model = self._directory.route(model, dialect)
        if self._upstream.credentials(provider).all_rest and self._directory.allows(caller, provider, upstream_model):
            return self.stand_in(FIRST, caller, model, dialect) or FIRST
        return FIRST

    def following(self, call: Call, failure: Failure) -> Attempt | None:
        """The attempt after one that failed so; None: what the provider said goes to the client."""
        provider, attempt = call.plan.provider, call.attempt
        self._note(provider, failure)
        if failure.unwanted:
            return None
        if failure.why == "option":
            first_id = attempt.first_id or call.id
            return attempt._replace(number=attempt.number + 1, first_id=first_id, without_option=True)
        if call.plan.stored is not None:
            return None  # what it is about or goes on from is there, and nowhere else
        if failure.billable and not self._retries.after_timeout:
            return None
        if attempt.number >= self._retries.attempts_max:
            return None
        tried = attempt.tried | {failure.credential}
        again = Attempt(attempt.model, attempt.place, attempt.number + 1, tried, attempt.first_id or call.id)
        stand_in = self.stand_in(again, call.caller, call.asked.ask.model, call.endpoint.dialect.name)
        # The last attempt is for what stands in: credentials that are limited often are so together.
        if stand_in is not None and again.number == self._retries.attempts_max:
            return stand_in
        return again if self._upstream.credentials(provider).has_another(tried) else stand_in

    def stand_in(self, attempt: Attempt, caller: Caller, model: str, dialect: str) -> Attempt | None:
        """The same attempt with what comes next of that which stands in for this model; None: there is no more."""
        stand_ins = self._directory.stand_ins(model, dialect)
        for place in range(attempt.place, len(stand_ins)):
            if self._is_possible(stand_ins[place], caller, dialect):
                return attempt._replace(model=stand_ins[place], place=place + 1, tried=frozenset())
        return None

    def _is_possible(self, name: str, caller: Caller, dialect: str) -> bool:
        """Only what speaks the client's dialect and what they may use can stand in, and only what is not resting itself
        is worth asking."""
        found = self._directory.spoken(name, dialect)
        if found is None:
            return False
        provider, model = found
        return not self._upstream.credentials(provider).all_rest and self._directory.allows(caller, provider, model)

    def _note(self, provider: Provider, failure: Failure) -> None:
        credentials = self._upstream.credentials(provider)
        if failure.why in ("forbidden", "option"):
            return  # it may serve others, and other models
        if failure.why == "credential":
            credentials.rest(failure.credential, REFUSED_REST_S)
        elif failure.retry_after_s is not None:
            credentials.rest(failure.credential, failure.retry_after_s)
        else:
            credentials.failed(failure.credential)
