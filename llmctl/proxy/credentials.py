"""A provider's credentials: which one a call takes, and which rest for a while because they are limited or refused."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

REST_S_MAX = 600.0  # whatever the provider says: limits of a day are asked about again sooner
REFUSED_REST_S = 60.0  # a credential that the provider does not take, until somebody mends it
FAILURES_FREE = 2  # in a row, before one rests: a single reset says nothing
FAILURE_REST_S = 2.0  # then doubled with each failure more
FAILURE_REST_S_MAX = 60.0
FINGERPRINT_CHARACTERS = 16


@dataclass(frozen=True, slots=True, repr=False)
class Credential:
    """A provider's secret. No repr: it must not slip into a log or a traceback. `number`: its place in the file."""

    secret: str  # "": it is exchanged for a token, see `Upstream.shown`
    weight: int = 1
    number: int = 0
    fingerprint: str = ""  # what the database knows it by


class Credentials:
    """Those of one provider. A provider with one credential always has it: nobody is turned away by a guess of ours."""

    def __init__(self, credentials: Sequence[Credential], *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._credentials = tuple(credentials)
        self._clock_s = clock_s
        self._rests_until_s: dict[int, float] = {}
        self._failures: dict[int, int] = {}

    def take_over(self, before: Credentials) -> None:
        """What was learned of those that are here still, before the configuration was read again."""
        numbers = {one.number: mine.number for one in before._credentials if (mine := self._alike(one)) is not None}
        self._rests_until_s = {numbers[n]: until_s for n, until_s in before._rests_until_s.items() if n in numbers}
        self._failures = {numbers[n]: failures for n, failures in before._failures.items() if n in numbers}

    def _alike(self, other: Credential) -> Credential | None:
        return next((one for one in self._credentials if one.fingerprint == other.fingerprint), None)

    def choose(self, tried: Collection[int] = ()) -> Credential | None:
        """One by weight, of those that were not tried yet and do not rest, if there are such; None: there is none."""
        if len(self._credentials) < 2:
            return self._credentials[0] if self._credentials else None
        left = [one for one in self._credentials if one.number not in tried] or self._credentials
        awake = [one for one in left if not self._rests(one.number)]
        weights = [one.weight for one in awake or left]
        return random.choices(awake or left, weights)[0]  # noqa: S311 - spreads load, hides nothing

    def known(self, fingerprint: str) -> Credential | None:
        """The one with this fingerprint, resting or not: others may be of another account. One that is no longer there
        was replaced, at best by another one of its account: then any."""
        if len(self._credentials) > 1:
            for one in self._credentials:
                if one.fingerprint == fingerprint:
                    return one
        return self.choose()

    def has_another(self, tried: Collection[int]) -> bool:
        """One that was not tried yet and does not rest."""
        return any(one.number not in tried and not self._rests(one.number) for one in self._credentials)

    @property
    def all_rest(self) -> bool:
        numbers = [one.number for one in self._credentials] or [0]
        return bool(self._rests_until_s) and all(map(self._rests, numbers))

    def rest(self, number: int, seconds: float) -> None:
        """The provider said so: its rate is spent, or it is not taken."""
        self._rests_until_s[number] = self._clock_s() + min(max(seconds, 0.0), REST_S_MAX)

    def failed(self, number: int) -> None:
        """It could not be reached, or was overloaded and did not say for how long."""
        failures = self._failures[number] = self._failures.get(number, 0) + 1
        if failures > FAILURES_FREE:
            self.rest(number, min(FAILURE_REST_S * 2 ** min(failures - FAILURES_FREE - 1, 10), FAILURE_REST_S_MAX))

    def worked(self, number: int) -> None:
        if self._failures:
            self._failures.pop(number, None)

    def _rests(self, number: int) -> bool:
        until_s = self._rests_until_s.get(number)
        if until_s is None:
            return False
        if self._clock_s() < until_s:
            return True
        del self._rests_until_s[number]
        return False


def fingerprint(secret: str) -> str:
    """A provider's secret is long and random: a part of its hash tells nothing of it."""
    return hashlib.sha256(b"llmctl credential " + secret.encode()).hexdigest()[:FINGERPRINT_CHARACTERS]
