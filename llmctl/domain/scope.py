"""What a limit or a model rule is set on: the organisation, a group, a user or a key."""

from __future__ import annotations

from typing import Literal, NamedTuple

PrincipalKind = Literal["org", "group", "user", "key"]
ORG_ID = 0  # there is one organisation; its limits and rules carry this id


class Scope(NamedTuple):
    principal: PrincipalKind
    id: int
    name: str  # "", "sales", "alice", "alice/laptop"

    @property
    def label(self) -> str:
        """For people: `organisation`, `group sales`, `user alice`, `key alice/laptop`."""
        return "organisation" if self.principal == "org" else f"{self.principal} {self.name}"


ORGANISATION = Scope("org", ORG_ID, "")
