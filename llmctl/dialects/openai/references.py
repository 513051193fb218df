"""Ids in a request of what is in somebody's stored answers. A provider takes them from whoever shows the account's
credential: here they have to be the caller's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Raw

from ..wire.fields import Fields
from ..wire.lenient import items, members, name_of

# Names that an item has what it says by. One with an id and none of them is what the provider has under that id.
_SAID: Mapping[bytes, tuple[str, ...]] = {
    b"": ("content",),
    b"null": ("content",),
    b'"message"': ("content",),
    b'"reasoning"': ("content", "encrypted_content"),
    b'"image_generation_call"': ("result",),
    b'"item_reference"': (),
}
_BARE = frozenset({"type", "id", "status"})  # of the others, one with nothing else
_NOTHING = (b"null", b"[]", b'""')


def response_references(fields: Fields) -> tuple[str, ...]:
    """In the input and the tools of a response."""
    found = [*_of_items(fields.raw("input")), *_of_containers(fields.raw("tools"))]
    return tuple(dict.fromkeys(found))


def spoken_references(messages: Raw | None) -> tuple[str, ...]:
    """In a chat: answers that were heard."""
    audios = [members(values["audio"]) for message in items(messages) if "audio" in (values := members(message))]
    return tuple(dict.fromkeys(name_of(audio["id"]) for audio in audios if "id" in audio))


def _of_items(value: Raw | None) -> Iterator[str]:
    for item in items(value):
        values = members(item)
        if "id" in values and _is_reference(values):
            yield name_of(values["id"])


def _is_reference(values: dict[str, Raw]) -> bool:
    said = {name for name, value in values.items() if bytes(value) not in _NOTHING}
    names = _SAID.get(bytes(values.get("type", b"")))
    return said <= _BARE if names is None else said.isdisjoint(names)


def _of_containers(tools: Raw | None) -> Iterator[str]:
    for tool in items(tools):
        values = members(tool)
        container = values.get("container")
        if container is not None and memoryview(container)[0] == ord('"'):
            yield name_of(container)
        environment = members(values.get("environment", b""))
        if "container_id" in environment:
            yield name_of(environment["container_id"])
