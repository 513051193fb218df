"""llama.cpp's own HTTP server on loopback: the real provider that the tests meter.

It speaks the OpenAI and Anthropic dialects and counts tokens by itself, so that our ledger can be checked
against a second book. In a process of its own, as providers are:

    python -m tests.support.llama MODEL PORT chat|embed [API_KEY]

Port 0 takes a free one. The first line printed is the server's address; the server ends when its input does.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.request import ProxyHandler, Request, build_opener

Kind = Literal["chat", "embed"]

MODEL_NAME = "tiny-random"
CONTEXT_TOKENS_PER_CALL = 4096
PARALLEL_CALLS = 2
METRICS_TIMEOUT_S = STOP_TIMEOUT_S = 10
PROJECT = Path(__file__).parents[2]
COUNTER = re.compile(r"^llamacpp:(prompt_tokens_total|prompt_tokens_cached_total|tokens_predicted_total) (\d+)$", re.M)


class LlamaServer:
    """A running server. `base_url` ends in `/v1`, `api_key` is the only key that it accepts."""

    def __init__(self, model: Path, kind: Kind = "chat", api_key: str = "sk-upstream-secret") -> None:
        self.model = MODEL_NAME
        self.api_key = api_key
        with tempfile.TemporaryFile() as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(model), "0", kind, api_key],
                cwd=PROJECT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
            assert self._process.stdout is not None
            self.url = self._process.stdout.readline().strip()
            if not self.url:
                self.stop()
                log.seek(0)
                raise RuntimeError(f"llama.cpp did not start:\n{log.read().decode(errors='replace')}")
        self.base_url = f"{self.url}/v1"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def metrics(self) -> dict[str, int]:
        """The tokens that the server has counted since it started.

        `prompt_tokens_total` leaves out what came from the cache, `prompt_tokens_cached_total` is that;
        `tokens_predicted_total` is output, for `n` choices of all of them, where its usage object shows one.
        """
        request = Request(f"{self.url}/metrics", headers={"Authorization": f"Bearer {self.api_key}"})
        with build_opener(ProxyHandler({})).open(request, timeout=METRICS_TIMEOUT_S) as response:
            return {name: int(count) for name, count in COUNTER.findall(response.read().decode())}

    def stop(self) -> None:
        """Ends the server, at once and cutting off open calls; harmless when it has ended."""
        self._process.kill()
        self._process.communicate(timeout=STOP_TIMEOUT_S)


def main(model: str, port: str, kind: Kind, api_key: str | None = None) -> None:
    import xllamacpp  # only the server's process pays for it

    params = xllamacpp.CommonParams()
    params.model.path = model
    params.model_alias = {MODEL_NAME}
    params.hostnames = ["127.0.0.1"]
    params.port = int(port)
    params.api_keys = [api_key] if api_key else []
    params.n_ctx = CONTEXT_TOKENS_PER_CALL * PARALLEL_CALLS
    params.n_parallel = PARALLEL_CALLS
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.endpoint_metrics = True
    params.use_jinja = True
    params.warmup = params.ui = False
    params.offline = True
    if kind == "embed":
        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()  # until whoever started us closes it, or dies


if __name__ == "__main__":
    main(*sys.argv[1:])  # type: ignore[arg-type]
