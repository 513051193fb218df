"""Recorded traffic of real providers through the running daemon: is each call booked with exactly the usage that the
provider stated, however its answer is cut and packed, and does the client get what the provider sent, byte for byte?

    make replay CORPUS=FILE                        a table by provider and endpoint; ends with 1 if anything is wrong
    make replay CORPUS=FILE ARGS="--provider openai --verbose"
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from . import recording
from .recording import Exchange
from .run import Result, replay
from .upstream import MANNERS

COLUMNS = ("exchanges", "replayed", "exact", "none stated", "refused", "WRONG", "identical")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="make replay", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--provider", help="this one only")
    parser.add_argument("--endpoint", help="this one only")
    parser.add_argument("--verbose", action="store_true", help="each call that is wrong or refused")
    options = parser.parse_args()
    by_provider: defaultdict[str, list[Exchange]] = defaultdict(list)
    for exchange in recording.read(options.corpus):
        if options.provider in (None, exchange.provider) and options.endpoint in (None, exchange.endpoint):
            by_provider[exchange.provider].append(exchange)
    results: list[Result] = []
    for provider, exchanges in sorted(by_provider.items()):
        with tempfile.TemporaryDirectory(prefix="llmctl-replay-") as directory:
            results += asyncio.run(replay(provider, exchanges, Path(directory)))
        print(f"\r{provider}: {len(exchanges)} exchanges", end="", file=sys.stderr)
    print(file=sys.stderr)
    _print_table(results)
    _print_reasons(results, verbose=options.verbose)
    return 1 if any(result.booked == "WRONG" or _is_changed(result) for result in results) else 0


def _is_changed(result: Result) -> bool:
    return result.booked != "refused" and not result.identical


def _print_table(results: Iterable[Result]) -> None:
    groups: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for result in results:
        for place in ((result.exchange.provider, result.exchange.endpoint), ("ALL", "")):
            counts = groups[place]
            counts["replayed"] += 1
            counts["exchanges"] += result.manner == MANNERS[0].name
            counts[result.booked] += 1
            counts["identical"] += result.booked != "refused" and result.identical
    print(f"{'PROVIDER':<17}{'ENDPOINT':<28}" + "".join(f"{name.upper():>13}" for name in COLUMNS))
    for place, counts in sorted(groups.items(), key=lambda item: (item[0][0] == "ALL", item[0])):
        print(f"{place[0]:<17}{place[1]:<28}" + "".join(f"{counts[name]:>13,}" for name in COLUMNS))


def _print_reasons(results: Iterable[Result], *, verbose: bool) -> None:
    reasons: Counter[str] = Counter()
    for result in results:
        where = f"{result.exchange.provider} {result.exchange.endpoint}"
        if result.booked in ("WRONG", "refused"):
            reasons[f"{result.booked:<8} {where}: {result.why[:160]}"] += 1
        elif not result.identical:
            reasons[f"CHANGED  {where} ({result.manner})"] += 1
        if verbose and (result.booked == "WRONG" or _is_changed(result)):
            print(f"{result.exchange.id} {result.manner}: {result.booked} {result.why}")
    print()
    for reason, count in sorted(reasons.items()):
        print(f"{count:>6,}  {reason}")


if __name__ == "__main__":
    sys.exit(main())
