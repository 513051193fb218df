"""The gateway, with keys, limits, prices, metrics and the durable ledger on, beside a bare aiohttp pass-through.

    make bench                      about five minutes; best on a machine that does nothing else
    make bench ARGS=--quick         one minute, noisier
    make bench ARGS=--reports       reports over ten million calls instead; three minutes, 2 GB in $TMPDIR
    make bench ARGS=--scale         many streams, bodies, users and calls instead; 25 minutes, 3 GB
    make bench ARGS=--profile       where the gateway's time goes, instead of how much it is

Gateway and pass-through have one core, in turns; load and a static upstream have another. Every answer must be a 200,
and afterwards the ledger must hold exactly the calls that were made, and agree with itself to the nano-dollar. A goal
that is missed is shown, and is no failure.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from . import profiling, report, reports, scale, startup
from .figures import Figure, Goal, figures
from .gateway import Gateway, GatewayFailed, read_books
from .load import LoadFailed, wrk_version
from .machine import Cores, Process, cores
from .measure import WORKLOADS, Driver, Target

PACKAGE = "tests.bench"


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # an exception: the servers are stopped on the way out
    try:
        with tempfile.TemporaryDirectory(prefix="llmctl-bench-") as directory:
            return run(options, Path(directory).resolve())
    except (GatewayFailed, LoadFailed) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def run(options: argparse.Namespace, directory: Path) -> int:
    where = cores()
    other_load = os.getloadavg()[0]
    driver = Driver(where, with_wrk=options.client == "wrk", scratch=directory)
    if options.reports:
        about = report.machine(where, "medians of several turns", other_load)
        found = [*startup.figures(where.measured, directory), *reports.figures(where.measured, directory)]
        _tell(options, about, found)
        return 0
    with Process([sys.executable, "-m", f"{PACKAGE}.upstream"], where.others) as upstream:
        upstream_url = upstream.first_line()
        if options.scale:
            about = report.machine(where, _load(options), other_load)
            found = scale.figures(where, driver, directory, upstream_url, options.turns, options.seconds)
            _tell(options, about, found)
            return 0
        gateway = Gateway(directory, upstream_url, where.measured)
        if options.profile:
            print(profiling.profile(gateway, driver, options.seconds, directory))
            return 0
        rows = _compare(options, where, driver, gateway, upstream_url)
    rows += startup.figures(where.measured, directory)
    about = report.machine(where, _load(options), other_load)
    _tell(options, about, rows)
    return _check_books(gateway, driver)


def _tell(options: argparse.Namespace, about: dict[str, str], figures: Sequence[Figure]) -> None:
    text = report.text_of(about, figures)
    if options.json:
        report.print_json(about, figures)
    else:
        print(text, end="")
    if options.readme:
        what = "--reports --readme" if options.reports else "--scale --readme" if options.scale else "--readme"
        report.write_readme(f'make bench ARGS="{what}"', text)


def _compare(
    options: argparse.Namespace, where: Cores, driver: Driver, gateway: Gateway, upstream_url: str
) -> list[Figure]:
    bare_command = [sys.executable, "-m", f"{PACKAGE}.passthrough", upstream_url]
    turns = {}
    with Process(bare_command, where.measured) as passthrough, gateway.start() as daemon:
        bare = Target("bare", passthrough.first_line(), gateway.key, passthrough)
        llmctl = Target("llmctl", gateway.url, gateway.key, daemon)
        memory_at_start = (passthrough.memory_mb(), daemon.memory_mb())
        for number, workload in enumerate(WORKLOADS, start=1):
            print(f"{number} of {len(WORKLOADS)}: {workload.name}", file=sys.stderr)
            turns[workload] = driver.alternate(bare, llmctl, workload, options.turns, options.seconds)
        firsts = [
            (driver.firsts(bare, options.seconds), driver.firsts(llmctl, options.seconds)) for _ in range(options.turns)
        ]
        memory = (passthrough.memory_mb(), daemon.memory_mb())
    first_p50_ms = [(of_bare.p50_ms, of_llmctl.p50_ms) for of_bare, of_llmctl in firsts]
    first_p99_ms = [(of_bare.p99_ms, of_llmctl.p99_ms) for of_bare, of_llmctl in firsts]
    return [
        *figures(turns),
        Figure("first event p50, 1 stream at once", "ms", first_p50_ms, "difference", Goal(0.5)),
        Figure("first event p99, 1 stream at once", "ms", first_p99_ms, "difference", Goal(2.0)),
        Figure("memory after start", "MB", [memory_at_start], "value", Goal(70)),
        Figure(f"memory after {driver.answered['llmctl']:,} calls", "MB", [memory], "value", Goal(120)),
    ]


def _check_books(gateway: Gateway, driver: Driver) -> int:
    """The daemon has stopped: what it booked must be what the load saw."""
    answered, cut_max = driver.answered["llmctl"], driver.cut_max["llmctl"]
    mistakes = read_books(gateway.database).mistakes(answered, cut_max)
    for mistake in mistakes:
        print(f"error: the books are wrong: {mistake}", file=sys.stderr)
    if mistakes:
        return 1
    print(f"The books agree: {answered:,} answers, all settled, none open; roll-ups, balances equal.", file=sys.stderr)
    return 0


def _options() -> argparse.Namespace:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="make bench ARGS=...", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="3 turns of 2 s instead of 5 of 4 s")
    parser.add_argument("--turns", type=int)
    parser.add_argument("--seconds", type=int)
    parser.add_argument("--client", choices=("wrk", "own"), help="default: wrk where there is one")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--readme", action="store_true", help="put the table into README.md, too")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--scale", action="store_true", help="what grows, instead")
    parser.add_argument("--reports", action="store_true", help="start-up, and reports over ten million calls, instead")
    options = parser.parse_args()
    options.turns = options.turns or (3 if options.quick else 5)
    options.seconds = options.seconds or (2 if options.quick else 4)
    options.client = options.client or ("wrk" if wrk_version() else "own")
    return options


def _load(options: argparse.Namespace) -> str:
    client = f"wrk {wrk_version()}" if options.client == "wrk" else "our own client"
    return f"{options.turns} turns of {options.seconds} s each, in alternation, by {client}; medians"


if __name__ == "__main__":
    sys.exit(main())
