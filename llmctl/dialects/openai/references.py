"""Ids in a request of what is in somebody's stored answers. A provider takes them from whoever shows the account's
credential: here they have to be the caller's own.

What can only be read by its id is `referred to`, and has to be known as the caller's. What may say all of it itself is
`mentioned`: clients send along what they were told, also by providers that keep nothing. That must only not be somebody
else's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from msgspec import Raw

from ..wire.fields import Fields, may_say, read_objects, read_one
from ..wire.lenient import is_present, items, members, name_of, plain_value

# Of these types, names that one with an id says something by; of those that are not here, nothing is looked up.
_SAID = {
    "": ("content", "role"),
    "item_reference": (),
    "image_generation_call": ("result",),
    "message": ("content",),
    "reasoning": ("content", "encrypted_content"),
}
_ONLY_MENTIONED = frozenset({"message", "reasoning"})
_SMALL = 64  # bytes of a value that may be nothing


class References(NamedTuple):
    refers_to: tuple[str, ...] = ()
    mentions: tuple[str, ...] = ()


def response_references(fields: Fields) -> References:
    """In the input and the tools of a response."""
    refers_to = dict.fromkeys(_of_containers(fields.raw("tools"), "tools"))
    mentions: dict[str, None] = {}
    value = fields.raw("input")
    for item in _objects(value, "input") if value is not None and _may_refer(value) else ():
        refers_to |= dict.fromkeys(_of_containers(item.get("tools"), "input.tools"))
        names = _SAID.get(name_of(item.get("type")))
        if names is None or not is_present(item.get("id")) or any(_says(item.get(name)) for name in names):
            continue
        kind = name_of(item.get("type"))
        (mentions if kind in _ONLY_MENTIONED else refers_to)[name_of(item["id"])] = None
    return References(tuple(refers_to), tuple(mentions))


def spoken_references(messages: Raw | None) -> tuple[str, ...]:
    """In a chat: answers that were heard."""
    audios = [values["audio"] for message in items(messages) if is_present((values := members(message)).get("audio"))]
    read = [audio for one in audios for audio in read_one(one, "messages.audio") or ()]
    return tuple(dict.fromkeys(name_of(audio["id"]) for audio in read if is_present(audio.get("id"))))


def _may_refer(value: Raw) -> bool:
    return may_say(value, b'id"') or may_say(value, b'"container"')


def _says(value: Raw | None) -> bool:
    if value is None or len(value) > _SMALL:
        return value is not None
    said = plain_value(value)
    return bool(said.strip() if isinstance(said, str) else said)


def _objects(value: Raw, path: str) -> list[dict[str, Raw]]:
    """Raises Refused where a name stands twice."""
    found = read_objects(value, path)
    return found if found is not None else list(map(members, items(value)))


def _of_containers(tools: Raw | None, path: str) -> Iterator[str]:
    if tools is None or not may_say(tools, b"container"):
        return
    for tool in _objects(tools, path):
        container = tool.get("container")
        if container is not None and memoryview(container)[0] == ord('"'):
            yield name_of(container)
        environment = tool.get("environment")
        for values in (read_one(environment, f"{path}.environment") or ()) if environment is not None else ():
            if is_present(values.get("container_id")):
                yield name_of(values["container_id"])
