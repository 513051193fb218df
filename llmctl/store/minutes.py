"""Limits per minute in one batch: calls that started in different slots of a minute see each other."""

from __future__ import annotations

from collections.abc import Sequence

from llmctl.domain.limit import Standing

from . import balances
from .balances import Place, Row
from .sql import Reading


class Minutes:
    """The standings of slots that calls of this batch are judged by."""

    def __init__(self, slots: Sequence[tuple[Place, Standing]]) -> None:
        self._slots = slots
        self._by_member: dict[tuple[int, int], list[tuple[Row, Standing]]] = {}  # limit and member
        for place, standing in slots:
            self._by_member.setdefault(place.row[:2], []).append((place.row, standing))

    def __bool__(self) -> bool:
        return bool(self._slots)

    def read(self) -> Reading[None]:
        """What the slots beside them count, as they were before this batch."""
        return balances.slide(self._slots)

    def count(self, row: Row, settled: int, held: int) -> None:
        """What a balance moves by in this batch, in the slots beside it; nothing if it is none of a minute."""
        for other, standing in self._by_member.get(row[:2], ()):
            if balances.are_beside(row, other):
                standing.add_others(settled, held)
