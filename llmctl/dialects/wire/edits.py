"""Changes to a request body that leave every other byte as it came."""

from __future__ import annotations

from .fields import Fields
from .shortened import restored


class Edits:
    """Replacements and insertions, collected and applied in one go. None may touch a byte that another one touches."""

    __slots__ = ("_cuts", "_inserts")

    def __init__(self) -> None:
        self._cuts: list[tuple[int, int, bytes]] = []
        self._inserts: dict[int, tuple[Fields, list[bytes]]] = {}

    def put(self, fields: Fields, path: tuple[str, ...], value: bytes) -> None:
        """Sets the member at `path` to the JSON `value`: replaced where it is (null too), else inserted, with the
        objects on the way to it."""
        name, *rest = path
        if not rest:
            if name in fields.values:
                self._cuts.append((*fields.span(name), value))
            else:
                self._insert(fields, name, value)
            return
        inner = fields.object(name)
        if inner is not None:
            self.put(inner, tuple(rest), value)
            return
        for step in reversed(rest):
            value = b'{"%b":%b}' % (step.encode(), value)
        self.put(fields, (name,), value)

    def replace(self, start: int, end: int, value: bytes) -> None:
        """Sets what stands there."""
        self._cuts.append((start, end, value))

    def apply(self, text: bytes, body: bytes) -> bytes:
        """The changed body, of which `text` is the short text; the same object when nothing changes."""
        cuts = [cut for cut in self._cuts if text[cut[0] : cut[1]] != cut[2]]
        for fields, members in self._inserts.values():
            after_brace = fields.start + 1
            comma = b"," if fields.values else b""
            cuts.append((after_brace, after_brace, b",".join(members) + comma))
        if not cuts:
            return body
        pieces: list[bytes] = []
        position = 0
        for start, end, value in sorted(cuts):
            pieces += (text[position:start], value)
            position = end
        changed = b"".join((*pieces, text[position:]))
        return changed if text is body else restored(changed, body)

    def _insert(self, fields: Fields, name: str, value: bytes) -> None:
        _, members = self._inserts.setdefault(fields.start, (fields, []))
        members.append(b'"%b":%b' % (name.encode(), value))
