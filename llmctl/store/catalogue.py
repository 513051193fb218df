"""Where price lists come from: the genai-prices package, or a file of ours for machines without a network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from llmctl.domain.errors import BadInput

from . import catalogue_import, price_match
from .price_rows import PriceRow, canonical, check, decode, encode

FILE_FORMAT = "llmctl-prices/1"
WHY_CHARS_MAX = 200
FILE_BYTES_MAX = 64 << 20  # the whole of genai-prices is 1 MB


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Rows in the order of matching. `notes` counts, by reason, what could not be taken over as it was."""

    rows: tuple[PriceRow, ...]
    origin: str  # "genai-prices 0.2.3"
    notes: Mapping[str, int]


def from_genai_prices() -> Catalogue:
    """The whole of the installed genai-prices package. Its import takes 0.25 s: hence here, and never per
    call.
    """
    from importlib.metadata import version

    from genai_prices.data import providers

    rows, notes = catalogue_import.rows_of(providers)
    return Catalogue(tuple(rows), f"genai-prices {version('genai-prices')}", notes)


def from_file(path: Path) -> Catalogue:
    """A file that `to_json` wrote, or `prices/data.json` of genai-prices. Raises BadInput, naming file and row."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}", hint="check the path") from None
    if len(data) > FILE_BYTES_MAX:
        raise BadInput(f"{path} is larger than {FILE_BYTES_MAX >> 20} MiB", hint="that is no price list")
    try:
        record = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is not JSON: {error}", hint="take one from a machine with a network") from None
    if isinstance(record, list) or (isinstance(record, dict) and "providers" in record):
        return _from_genai_file(path, data)
    if not isinstance(record, dict) or record.get("format") != FILE_FORMAT or not isinstance(record.get("rows"), list):
        raise BadInput(
            f"{path} is not a price list of the format {FILE_FORMAT}",
            hint="write it with this llmctl version",
        )
    rows = []
    skipped = 0
    for number, item in enumerate(record["rows"], 1):
        try:
            row = _file_row(item)
            why = price_match.problem(json.loads(row.match))
            if why.startswith(price_match.BAD_REGEX):
                skipped += 1
                continue
            check(row)
        except BadInput as error:
            raise BadInput(f"{path}, row {number}: {error.message}", hint=error.hint) from None
        rows.append(row)
    _check_some(path, rows)
    origin = record.get("origin")
    notes = {f"model skipped: {price_match.BAD_REGEX}": skipped} if skipped else {}
    return Catalogue(tuple(rows), origin if isinstance(origin, str) else path.name, notes)


def _from_genai_file(path: Path, data: bytes) -> Catalogue:
    """As github.com/pydantic/genai-prices publishes it: a list of providers, or an object that holds one."""
    from genai_prices.types import _providers_from_raw

    record = json.loads(data, parse_float=Decimal)
    try:
        providers = _providers_from_raw(record if isinstance(record, list) else record["providers"])
        rows, notes = catalogue_import.rows_of(providers)
        for row in rows:
            check(row)
    except BadInput as error:
        raise BadInput(f"{path}: {error.message}", hint=error.hint) from None
    except (ValueError, TypeError, ArithmeticError, KeyError) as error:
        why = str(error).replace("\n", " ")[:WHY_CHARS_MAX]
        raise BadInput(
            f"{path} is not a price list of genai-prices: {why}",
            hint="take prices/data.json of github.com/pydantic/genai-prices",
        ) from None
    _check_some(path, rows)
    return Catalogue(tuple(rows), f"{path.name} of genai-prices", notes)


def _check_some(path: Path, rows: Sequence[PriceRow]) -> None:
    if not rows:
        raise BadInput(f"{path} has no price in it", hint="take a whole price list")


def to_json(catalogue: Catalogue) -> str:
    """A price list as a file: one row a line, so that two of them can be compared."""
    lines = ",\n".join(
        canonical(
            {
                "provider": row.provider,
                "model": row.model,
                "match": json.loads(row.match),
                "effective_from": row.effective_from_s,
                "terms": json.loads(row.terms),
                "context_tokens": row.context_tokens,
                "output_tokens_max": row.output_tokens_max,
            }
        )
        for row in catalogue.rows
    )
    head = f'"format":{canonical(FILE_FORMAT)},"origin":{canonical(catalogue.origin)}'
    return f'{{{head},"rows":[\n{lines}\n]}}\n'


def _file_row(item: object) -> PriceRow:
    """Raises BadInput."""
    if not isinstance(item, dict):
        raise BadInput("a row is an object")
    if missing := {"provider", "model", "match", "effective_from", "terms"} - item.keys():
        raise BadInput(f"{min(missing)} is missing")
    for name in ("provider", "model"):
        if not isinstance(item[name], str):
            raise BadInput(f"{name} is a text")
    try:
        terms = encode(decode(canonical(item["terms"])))
    except ValueError as error:
        raise BadInput(f"the terms of {item['provider']}/{item['model']} cannot be used: {error}") from None
    return PriceRow(
        item["provider"],
        item["model"],
        canonical(item["match"]),
        item["effective_from"],
        terms,
        item.get("context_tokens"),
        item.get("output_tokens_max"),
    )
