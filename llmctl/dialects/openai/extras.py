"""What some providers bill a request with beside tokens, at most: audio by the second (Mistral), pages of documents and
more results of a search than its fee covers (OpenRouter). A price without such a rate bills none of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..media_bounds import DOCUMENT_PAGES_MAX, REMOTE_AUDIO_SECONDS_MAX, audio_seconds_max
from ..wire.fields import Fields, may_say, read_objects
from ..wire.lenient import count, inner, plain_value

# $4 per 1,000 results, five of them a search if nothing else is asked for: https://openrouter.ai/docs/features/web-search
# A price's fee for a search is that of five.
_RESULTS_PER_FEE = 5
_SEARCHES_MAX = 10  # of a model that searches as often as it likes
_FILES = (b'"file"', b'"file_url"', b'"input_file"', b'"document"', b'"document_url"')
_PARSER = "file-parser"
_FREE_ENGINES = ("cloudflare-ai", "native", "pdf-text")  # https://openrouter.ai/docs/features/multimodal/pdfs


def extras(fields: Fields, reason: str) -> tuple[tuple[str, int], ...]:
    """By meter, how many. `reason`: why bytes do not bound the input."""
    found = []
    if reason and may_say(fields.text, b"audio"):  # wherever it is fetched from
        found.append(("audio_seconds", audio_seconds_max(len(fields.body)) + REMOTE_AUDIO_SECONDS_MAX))
    plugins = list(_objects(fields, "plugins"))
    parsers = [plugin for plugin in plugins if plugin.get("id") == _PARSER]
    files = reason and any(may_say(fields.text, word) for word in _FILES)
    if files and not (parsers and all(map(_parses_for_nothing, parsers))):
        found.append(("pages", DOCUMENT_PAGES_MAX))
    by_plugins = sum(_more_fees(plugin) for plugin in plugins)
    by_tools = sum(_more_fees(inner(tool, "parameters")) for tool in _objects(fields, "tools")) * _SEARCHES_MAX
    if by_plugins or by_tools:
        found.append(("web_search", by_plugins + by_tools))
    return tuple(found)


def _objects(fields: Fields, name: str) -> Iterator[dict[str, Any]]:
    value = fields.raw(name)
    for values in (read_objects(value, name) or ()) if value is not None else ():
        yield {key: plain_value(raw) for key, raw in values.items()}


def _parses_for_nothing(plugin: dict[str, Any]) -> bool:
    return inner(plugin, "pdf").get("engine") in _FREE_ENGINES


def _more_fees(values: dict[str, Any]) -> int:
    """Beyond the one that each search has anyway."""
    return max(0, -(-count(values.get("max_results")) // _RESULTS_PER_FEE) - 1)
