"""Keeps prompts and answers of groups that want it: by a thread, from a bounded queue, never in a call's way."""

from __future__ import annotations

import asyncio
import base64
import logging
import time

from llmctl.config import Config
from llmctl.domain.errors import StoreError
from llmctl.domain.moment import rfc3339
from llmctl.domain.redaction import Redactor
from llmctl.store import contents, ids
from llmctl.store.booking import Closing, Deferral

from . import json_strings
from .call import Call
from .json_strings import Redact
from .own_patterns import OwnPatterns, compiled
from .relay import KeptAnswer
from .turns import take_turns

logger = logging.getLogger(__name__)

EVERY_S = 1.0
PRUNE_EVERY_S = 3_600.0
WAITING_BYTES_MAX = 64 << 20  # what comes faster than it is written is dropped, and counted


class Contents:
    """Belongs to the event loop; redaction and writing happen on a thread."""

    def __init__(self, config: Config) -> None:
        self._directory = contents.directory_of(config.database)
        self.configure(config)
        self._waiting: list[tuple[dict[str, object], bytes, KeptAnswer]] = []
        self._waiting_bytes = self._dropped = 0
        self._unkept, self._why = 0, ""  # calls since nothing can be written

    def configure(self, config: Config) -> None:
        """For what ends from now on; what is kept too long by these settings goes at once."""
        self._settings = config.content
        self._without_kinds = Redactor(self._settings.redact)
        self._patterns = compiled(self._settings.patterns)
        self._pruned_at_s = float("-inf")

    def begin(self, call: Call) -> None:
        """Has the answer kept."""
        call.kept = KeptAnswer(self._settings.bytes_max)

    def ended(self, call: Call, closing: Closing | Deferral) -> None:
        """One call that is booked, or goes on at the provider."""
        kept = call.kept
        if kept is None:
            return
        size = len(call.asked.body) + sum(map(len, kept.chunks))
        if self._waiting_bytes + size > WAITING_BYTES_MAX:
            self._dropped += 1
            return
        self._waiting_bytes += size
        record: dict[str, object] = {
            "call": ids.shown(call.id),
            "at": rfc3339(call.started_at_ms / 1_000),
            "user": call.caller.user_name,
            "group": call.caller.group_name,
            "key": call.caller.key_public_id,
            "endpoint": call.endpoint.name,
            "model": f"{call.plan.provider.name}/{call.plan.model}",
            "status": closing.status,
        }
        self._waiting.append((record, call.asked.body, kept))

    async def run(self) -> None:
        await take_turns("contents", self.flush, EVERY_S)

    async def flush(self) -> None:
        """Writes what waits; what cannot be written is lost, and said: when it begins, and how much when it ends."""
        if self._dropped:
            logger.warning("the contents of %d calls came too fast, and are not kept", self._dropped)
            self._dropped = 0
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        try:
            await asyncio.to_thread(self._write, waiting)
        except StoreError as error:
            self._unkept += len(waiting)
            if self._why != (why := str(error)):
                logger.error("no contents are kept: %s", why)
                self._why = why
        else:
            if waiting and self._unkept:
                logger.warning("contents are kept again; those of %d calls are lost", self._unkept)
                self._unkept, self._why = 0, ""

    def _write(self, waiting: list[tuple[dict[str, object], bytes, KeptAnswer]]) -> None:
        now_s = int(time.time())
        if time.monotonic() - self._pruned_at_s > PRUNE_EVERY_S:
            self._pruned_at_s = time.monotonic()
            try:
                contents.prune(self._directory, self._settings.keep_days, now_s)
            except StoreError as error:
                logger.error("%s", error)  # what waits is written all the same
        records = []
        for record, request, kept in waiting:
            try:
                records.append(self._record(record, request, kept))
            except TimeoutError:
                logger.error(
                    "the contents of call %s are lost: [content] patterns take too long on them", record["call"]
                )
            except Exception as error:  # a bug, and no reason to lose those of others; its text may hold a prompt
                logger.error("the contents of call %s are lost: %s", record["call"], type(error).__name__)
        if records:
            contents.add(self._directory, records, now_s)

    def _record(self, record: dict[str, object], request: bytes, kept: KeptAnswer) -> dict[str, object]:
        most = self._settings.bytes_max
        answer = kept.plain()
        own = OwnPatterns(self._patterns)

        def redact(text: str) -> str:
            return json_strings.redacted(text, lambda one: own.redacted(self._without_kinds(one)))

        return {
            **record,
            "request": _text(request[:most], redact),
            "answer": self._answer(answer[:most], kept, redact),
            "cut": len(request) > most or len(answer) > most or kept.is_cut,
        }

    def _answer(self, data: bytes, kept: KeptAnswer, redact: Redact) -> str:
        """Of a stream its text: in the events a secret is spread over many, and no pattern finds it."""
        if kept.texts is None or not (self._settings.redact or self._settings.patterns):
            return _text(data, redact)
        return "\n\n".join(map(redact, kept.texts(data)))


def _text(data: bytes, redact: Redact) -> str:
    """Redacted; what is no text (audio, images) as base64. Raises TimeoutError."""
    try:
        text = data.decode("utf-8", "strict")
    except UnicodeDecodeError as error:
        if error.start <= len(data) - 4:
            return "base64:" + base64.b64encode(data).decode()
        text = data[: error.start].decode()  # cut inside a character
    return redact(text)
