"""The same load on other gateways, side by side: `make bench-peers`, five minutes.

    python -m tests.bench.peers --install    installs them below .peers, each into an environment of its own

Each has the measured core in turns. nginx, a bare pass-through and Portkey's gateway do no accounting. LiteLLM's proxy
runs without a database, so it keeps no spend. llmctl has keys, limits, prices and the durable ledger on.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from rich.table import Table

from . import report
from .gateway import PROVIDER_SECRET, Gateway
from .load import LoadFailed, wrk_version
from .machine import PROJECT, Cores, Process, cores, free_port
from .measure import ONE, SOME, Driver, Target, Turn
from .upstream import MODEL

HOME = PROJECT / ".peers"
LITELLM, PORTKEY = HOME / "litellm", HOME / "portkey"
PORTKEY_START = PORTKEY / "node_modules/@portkey-ai/gateway/build/start-server.js"
MASTER_KEY = "sk-bench-master"
READY_TIMEOUT_S = 90.0
TURNS, SECONDS = 3, 2


def install() -> None:
    HOME.mkdir(exist_ok=True)
    commands = [
        [sys.executable, "-m", "venv", str(LITELLM)],
        [str(LITELLM / "bin/pip"), "install", "--quiet", "litellm[proxy]"],
    ]
    if shutil.which("npm"):
        commands.append(["npm", "install", "--silent", "--prefix", str(PORTKEY), "@portkey-ai/gateway"])
    for command in commands:
        subprocess.run(command, check=True)


@dataclass(frozen=True, slots=True)
class Peer:
    name: str
    command: Sequence[str]
    port: int
    key: str = "none"
    headers: Mapping[str, str] | None = None
    environ: Mapping[str, str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def peers(directory: Path, upstream_url: str) -> list[Peer]:
    """Those that are installed."""
    found = []
    if nginx := shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin"):
        port, file = free_port(), directory / "nginx.conf"
        file.write_text(NGINX % {"directory": directory, "port": port, "upstream": urlsplit(upstream_url).netloc})
        found.append(Peer("nginx", [nginx, "-c", str(file), "-e", str(directory / "nginx.log")], port))
    if PORTKEY_START.exists():
        port = free_port()
        headers = {"x-portkey-provider": "openai", "x-portkey-custom-host": f"{upstream_url}/v1"}
        start = ["node", str(PORTKEY_START), f"--port={port}", "--headless"]
        found.append(Peer("Portkey", start, port, PROVIDER_SECRET, headers, {"TRUSTED_CUSTOM_HOSTS": "127.0.0.1"}))
    if (LITELLM / "bin/litellm").exists():
        port, file = free_port(), directory / "litellm.yaml"
        file.write_text(LITELLM_CONFIG % {"model": MODEL, "upstream": upstream_url, "key": MASTER_KEY})
        start = [str(LITELLM / "bin/litellm"), "--config", str(file), "--host", "127.0.0.1", "--port", str(port)]
        found.append(Peer("LiteLLM", start, port, MASTER_KEY))
    return found


@contextmanager
def started(peer: Peer, where: Cores, directory: Path) -> Iterator[Target]:
    log = directory / f"{peer.name}.log"
    with Process(peer.command, where.measured, environ=peer.environ, log=log) as process:
        target = Target(peer.name, peer.url, peer.key, process, peer.headers or {})
        _until_ready(target, log)
        yield target


def measure(directory: Path) -> dict[str, tuple[list[Turn], list[Turn]]]:
    """Of each target: turns of many calls at once, and of one."""
    where = cores()
    driver = Driver(where, with_wrk=bool(wrk_version()), scratch=directory)
    with ExitStack() as stack:
        upstream = stack.enter_context(Process([sys.executable, "-m", "tests.bench.upstream"], where.others))
        upstream_url = upstream.first_line()
        gateway = Gateway(directory, upstream_url, where.measured)
        bare_command = [sys.executable, "-m", "tests.bench.passthrough", upstream_url]
        bare = stack.enter_context(Process(bare_command, where.measured))
        targets = [
            Target("the provider itself", upstream_url, "none", upstream),
            Target("bare aiohttp", bare.first_line(), "none", bare),
            gateway.target("llmctl", stack.enter_context(gateway.start())),
            *(stack.enter_context(started(peer, where, directory)) for peer in peers(directory, upstream_url)),
        ]
        turns: dict[str, tuple[list[Turn], list[Turn]]] = {target.name: ([], []) for target in targets}
        for target in targets:
            with suppress(LoadFailed):  # to warm up: some take longer than a turn for their first answer
                driver.turn(target, SOME, SECONDS)
        for _ in range(TURNS):
            for target in targets:
                for workload, done in zip((SOME, ONE), turns[target.name], strict=True):
                    with suppress(LoadFailed):  # a turn without an answer says nothing
                        done.append(driver.turn(target, workload, SECONDS))
    return turns


def table_of(turns: Mapping[str, tuple[list[Turn], list[Turn]]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    for heading in (f"{SOME.name}, /s", "of llmctl's", f"{ONE.name}, p50 ms", "added ms", "added p99 ms"):
        table.add_column(heading, justify="right")
    per_s = {name: statistics.median(turn.result.calls_per_s for turn in many) for name, (many, _) in turns.items()}
    p50 = {name: statistics.median(turn.result.p50_ms for turn in one) for name, (_, one) in turns.items()}
    p99 = {name: statistics.median(turn.result.p99_ms for turn in one) for name, (_, one) in turns.items()}
    direct = next(iter(turns))
    for name in turns:
        added = ("", "") if name == direct else (f"{p50[name] - p50[direct]:.2f}", f"{p99[name] - p99[direct]:.2f}")
        share = "" if name == direct else f"{per_s[name] / per_s['llmctl']:.2f}x"
        table.add_row(name, f"{per_s[name]:,.0f}", share, f"{p50[name]:.2f}", *added)
    return table


def _until_ready(target: Target, log: Path) -> None:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {target.key}", **target.headers}
    asked = urllib.request.Request(f"{target.url}/v1/chat/completions", SOME.body.encode(), headers)
    until_s = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < until_s and target.process.running:
        try:
            with urllib.request.urlopen(asked, timeout=5):
                return
        except (OSError, urllib.error.HTTPError):
            time.sleep(0.5)
    raise SystemExit(f"error: {target.name} does not answer:\n{log.read_text()[-2_000:]}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--install", action="store_true")
    parser.add_argument("--readme", action="store_true", help="put the table into README.md, too")
    options = parser.parse_args()
    if options.install:
        install()
        return
    other_load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="llmctl-bench-") as directory:
        turns = measure(Path(directory).resolve())
    about = report.machine(cores(), f"{TURNS} turns of {SECONDS} s each, in alternation; medians", other_load)
    text = report.plain(about, table_of(turns))
    print(text, end="")
    if options.readme:
        report.write_readme("make bench-peers ARGS=--readme", text)


NGINX = """
daemon off;
worker_processes 1;
pid %(directory)s/nginx.pid;
error_log %(directory)s/nginx.log;
events { worker_connections 1024; }
http {
    access_log off;
    client_body_temp_path %(directory)s/body;
    proxy_temp_path %(directory)s/proxy;
    fastcgi_temp_path %(directory)s/fastcgi;
    uwsgi_temp_path %(directory)s/uwsgi;
    scgi_temp_path %(directory)s/scgi;
    keepalive_requests 1000000;
    upstream provider { server %(upstream)s; keepalive 64; keepalive_requests 1000000; }
    server {
        listen 127.0.0.1:%(port)d;
        location / { proxy_pass http://provider; proxy_http_version 1.1; proxy_set_header Connection ""; }
    }
}
"""
LITELLM_CONFIG = """
model_list:
  - model_name: %(model)s
    litellm_params: { model: openai/%(model)s, api_base: %(upstream)s/v1, api_key: none }
general_settings: { master_key: %(key)s }
litellm_settings: { telemetry: false }
"""

if __name__ == "__main__":
    main()
