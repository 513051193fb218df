"""Where the gateway's time goes, function by function, while 32 calls are under way.

cProfile, which is always there, sees the event loop's thread alone and makes small functions look dear. py-spy, where
it is installed, samples from outside which thread holds the interpreter's lock, and costs little; time in C counts for
the Python that called it, but SQLite's and the disk's, without that lock, not at all.
"""

from __future__ import annotations

import io
import pstats
import shutil
import subprocess
from collections import Counter
from pathlib import Path

from .gateway import Gateway
from .measure import SOME, Driver, Target

FUNCTIONS = 40
SAMPLES_PER_S = 500
_ROOTS = ("Runner.run (", "Thread.run (")  # what stands above these is the same in every sample


def profile(gateway: Gateway, driver: Driver, seconds: int, scratch: Path) -> str:
    how = _py_spy if shutil.which("py-spy") else _cprofile
    return how(gateway, driver, seconds, scratch)


def _cprofile(gateway: Gateway, driver: Driver, seconds: int, scratch: Path) -> str:
    file = scratch / "profile.pstats"
    with gateway.start(profile=file) as daemon:
        turn = driver.turn(Target("llmctl", gateway.url, gateway.key, daemon), SOME, seconds)
    text = io.StringIO()
    stats = pstats.Stats(str(file), stream=text).strip_dirs()
    for order in ("tottime", "cumulative"):
        stats.sort_stats(order).print_stats(FUNCTIONS)
    return f"cProfile, event loop only: {turn.result.calls:,} calls\n{text.getvalue()}"


def _py_spy(gateway: Gateway, driver: Driver, seconds: int, scratch: Path) -> str:
    file = scratch / "profile.raw"
    with gateway.start() as daemon:
        target = Target("llmctl", gateway.url, gateway.key, daemon)
        driver.turn(target, SOME, 1)
        record = f"py-spy record --format raw --function --threads --gil --rate {SAMPLES_PER_S}".split()
        watching = subprocess.Popen(
            [*record, "--pid", str(daemon.pid), "--duration", str(seconds), "--output", str(file)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        turn = driver.turn(target, SOME, seconds)
        watching.wait()
    own: Counter[str] = Counter()
    cumulative: Counter[str] = Counter()
    for line in file.read_text().splitlines():
        stack, _, samples = line.rpartition(" ")
        frames = stack.split(";")
        below = max((place for place, frame in enumerate(frames) if frame.startswith(_ROOTS)), default=-1) + 1
        frames = [frames[0], *frames[max(1, below) :]]  # the thread, and what it does
        own[frames[-1]] += int(samples)
        cumulative.update(dict.fromkeys(frames, int(samples)))
    lines = [f"py-spy, threads with the interpreter's lock: {turn.result.calls:,} calls, {own.total():,} samples"]
    for title, counts in (("own time", own), ("own time and callees", cumulative)):
        lines += ["", f"   %  {title}"]
        lines += [f"{100 * count / own.total():4.1f}  {frame}" for frame, count in counts.most_common(FUNCTIONS)]
    return "\n".join(lines)
