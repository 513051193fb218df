"""What follows the end of a call: it is booked, and told to all who keep count."""

from __future__ import annotations

from llmctl.store.booking import Closing, Deferral
from llmctl.store.ledger import Ledger

from . import settlement
from .attempts import Failure
from .call import Call
from .contents import Contents
from .metrics import Metrics
from .setup import Setup
from .telemetry import Telemetry


class Endings:
    """One per worker."""

    def __init__(self, ledger: Ledger, metrics: Metrics, telemetry: Telemetry | None, contents: Contents) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._telemetry = telemetry
        self._contents = contents

    def ended(self, call: Call, closing: Closing | Deferral, setup: Setup, failure: Failure | None) -> None:
        if isinstance(closing, Deferral):
            self._ledger.defer(closing)
        else:
            self._ledger.settle(closing)
            self._note(call, closing, setup, failure, retried=False)
        if call.kept is not None:
            self._contents.ended(call, closing)

    def replaced(self, call: Call, closing: Closing, setup: Setup, failure: Failure) -> None:
        """Of an attempt that was booked with the one that took its place. `closing`: as it would have ended."""
        closing = settlement.superseded(closing)
        self._note(call, closing, setup, failure, retried=True)
        if call.kept is not None:
            self._contents.ended(call, closing)

    def _note(self, call: Call, closing: Closing, setup: Setup, failure: Failure | None, *, retried: bool) -> None:
        setup.directory.lessons.learn(call, closing)
        plan = call.plan
        self._metrics.booked(
            plan.provider.name,
            call.endpoint.dialect.name,
            plan.model,
            closing,
            known=plan.price is not None,
            failure=failure,
            retried=retried,
            first_byte_s=call.first_byte_after_s,
        )
        if self._telemetry is not None:
            self._telemetry.ended(call, closing)
