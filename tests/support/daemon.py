"""The installed `llmctl serve` as a process of its own, on free ports, and commands beside it."""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from llmctl.cli.app import run

LLMCTL = Path(sys.executable).with_name("llmctl")
# root may write what it likes, unless it starts without that right
AS_ANYBODY = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []
START_S = 20.0
_one_at_a_time = threading.Lock()  # stdout is the process's


@dataclass(frozen=True, slots=True)
class Answer:
    """What came over the wire, undecoded."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def call_id(self) -> str:
        return self.headers["x-llmctl-call-id"]


class Daemon:
    """`with Daemon(directory, providers) as daemon:`; `providers` is TOML text."""

    def __init__(
        self, directory: Path, providers: str, *, server: str = "", extra: str = "", args: list[str] | None = None
    ) -> None:
        self.directory = directory
        self.config = directory / "config.toml"
        self.database = directory / "llmctl.db"
        self.args = args or []
        self.environ = {**os.environ, "NO_COLOR": "1", "LLMCTL_CONFIG": str(self.config)}
        self.config.write_text(
            f'database = "llmctl.db"\n[server]\nlisten = "127.0.0.1:0"\nadmin_listen = "127.0.0.1:0"\n{server}\n'
            f"{extra}\n{providers}\n"
        )
        self.config.chmod(0o600)
        if not self.database.exists():
            from llmctl.store.database import create

            create(self.database)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [str(LLMCTL), "serve", *self.args],
            env=self.environ,
            cwd=self.directory,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        self.log: list[str] = []
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        deadline_s = time.monotonic() + START_S
        while time.monotonic() < deadline_s:
            found = re.search(r"listens on (\S+).*admin: (http://[^/\s]+)", "".join(self.log))
            if found:
                self.url, self.admin_url = found.groups()
                self.base_url = f"{self.url}/v1"
                if self.get("/readyz", admin=True)[0] == 200:
                    return
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        self.kill()
        raise AssertionError(f"the daemon did not start: {''.join(self.log)}")

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=90)
        finally:
            self._close()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._close()

    def _close(self) -> None:
        self._reader.join()
        if self.process.stderr is not None:
            self.process.stderr.close()

    def llmctl(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(LLMCTL), *args], env=self.environ, cwd=self.directory, capture_output=True, text=True, timeout=60
        )
        if check:
            assert done.returncode == 0, done.stderr
        return done

    def here(self, *args: str) -> str:
        """The same command in this process, for what a test does on its way: 15 ms instead of 200. Returns stdout."""
        with _one_at_a_time, redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
            status = run([*args, "--config", str(self.config)])
        assert status == 0, err.getvalue()
        return out.getvalue()

    def json(self, *args: str) -> list[dict]:
        return json.loads(self.here(*args, "-o", "json"))

    def add_user(self, name: str, group: str | None = None) -> str:
        """Returns the key's secret."""
        if group is not None:
            self.here("group", "add", group, "--if-not-exists", "-q")
        more = ["--group", group] if group else []
        return self.here("user", "add", name, *more, "-q").strip()

    def calls(self, *args: str, count: int | None = None) -> list[dict]:
        """The calls, newest first; with `count`, as soon as so many are there and none is open."""
        deadline_s = time.monotonic() + 10
        while True:
            rows = self.json("calls", *args)
            if count is None or (len(rows) >= count and not any(row["state"] == "open" for row in rows)):
                return rows
            assert time.monotonic() < deadline_s, rows
            time.sleep(0.05)

    def call(self, call_id: str) -> dict[str, Any]:
        """One of the latest 1,000 calls, as soon as it has ended."""
        deadline_s = time.monotonic() + 10
        while True:
            row = next((row for row in self.json("calls", "--limit", "1000") if row["id"] == call_id), None)
            if row is not None and row["state"] != "open":
                return row
            assert time.monotonic() < deadline_s, f"call {call_id}: {row}"
            time.sleep(0.02)

    def send(
        self,
        path: str,
        body: bytes | dict[str, Any] | None = None,
        *,
        key: str = "",
        headers: dict[str, str] | None = None,
        method: str = "POST",
    ) -> Answer:
        """One request on a connection of its own, without a header more than is said here."""
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        sent = {"Content-Type": "application/json", **(headers or {})}
        if key:
            sent["Authorization"] = f"Bearer {key}"
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=30)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in sent.items():
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str, *, admin: bool = False, key: str = "") -> tuple[int, str]:
        request = urllib.request.Request((self.admin_url if admin else self.url) + path)
        if key:
            request.add_header("Authorization", f"Bearer {key}")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""
