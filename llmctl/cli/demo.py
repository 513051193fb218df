"""The demo user of `init --demo`: a key, and lines that work when they are pasted."""

from __future__ import annotations

import importlib.util
import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmctl.config.presets import SANDBOX

from .context import nearby
from .secret_output import values as key_values

if TYPE_CHECKING:
    from llmctl.config import Config
    from llmctl.config.server import Address

    from .context import App

GROUP = USER = "demo"
PROMPT = "Say hello in five words."
OUTPUT_TOKENS_MAX = 64

# A small model of each well-known provider that has one by a lasting name, for a first call.
MODELS: Mapping[str, str] = {
    SANDBOX: "sandbox-small",
    "openai": "gpt-5-mini",
    "anthropic": "claude-haiku-4-5",
    "gemini": "gemini-2.5-flash",
    "mistral": "mistral-small-latest",
    "groq": "groq/llama-3.1-8b-instant",
    "xai": "grok-4",
    "deepseek": "deepseek-chat",
    "openrouter": "openrouter/openai/gpt-5-mini",
    "together": "together/meta-llama/Llama-3.3-70B-Instruct-Turbo",
    "fireworks": "fireworks/accounts/fireworks/models/llama-v3p3-70b-instruct",
    "cerebras": "cerebras/llama3.1-8b",
    "perplexity": "sonar",
}


@dataclass(frozen=True, slots=True)
class Demo:
    """What was made, as values and as prose."""

    values: dict[str, object]
    text: str


def make(run: App, config: Config, llmctl: str) -> Demo:
    """Adds the demo group, user and key to a new database. `llmctl`: how to call this program."""
    from llmctl.store import groups, keys, users

    with run.writing() as (tx, author):
        groups.add(tx, author, GROUP, parent=None, timezone=None)
        users.add(tx, author, USER, group=GROUP, email=None)
        new = keys.create(tx, author, USER)
    lines = [
        f"Added user {USER} in group {GROUP}. Key {new.key.label} ({new.key.id}), shown once:",
        "",
        new.secret,
        "",
    ]
    example = _example(config)
    if example is None:
        lines.append(f"Base URL for any SDK: {_url(config.server.listen)}/v1")
    else:
        dialect, model = example
        to_paste = _openai if dialect == "openai" else _anthropic
        curl, code = to_paste(_url(config.server.listen), new.secret, model)
        python, sdk = _python(dialect)
        installed = "" if sdk else f", after: pip install {dialect}"
        lines += [
            f"While the gateway runs ({llmctl} serve), in another terminal:",
            "",
            curl,
            "",
            f"The same with Python and the official SDK{installed}:",
            "",
            f"{python} -c {shlex.quote(code)}",
        ]
    lines += ["", "Then see what it cost:", "", f"{llmctl} usage --group {GROUP}"]
    return Demo(key_values(new, in_file=False), "\n".join(lines))


def _example(config: Config) -> tuple[str, str] | None:
    """(dialect, model) of a call that works: the sandbox's if it is on, else one of the first provider with a model."""
    names = sorted(config.providers, key=lambda name: name != SANDBOX)
    for dialect in ("openai", "anthropic"):
        for name in names:
            if name in MODELS and dialect in config.providers[name].dialects:
                return dialect, MODELS[name]
    return None


def _openai(url: str, secret: str, model: str) -> tuple[str, str]:
    body = {"model": model, "messages": [{"role": "user", "content": PROMPT}]}
    curl = _curl(f"{url}/v1/chat/completions", [f"Authorization: Bearer {secret}"], body)
    code = (
        "import openai; "
        f"client = openai.OpenAI(base_url={url + '/v1'!r}, api_key={secret!r}); "
        f"answer = client.chat.completions.create(model={model!r}, messages={body['messages']!r}); "
        "print(answer.choices[0].message.content)"
    )
    return curl, code.replace("'", '"')


def _anthropic(url: str, secret: str, model: str) -> tuple[str, str]:
    messages = [{"role": "user", "content": PROMPT}]
    body = {"model": model, "max_tokens": OUTPUT_TOKENS_MAX, "messages": messages}
    curl = _curl(f"{url}/v1/messages", [f"x-api-key: {secret}", "anthropic-version: 2023-06-01"], body)
    code = (
        "import anthropic; "
        f"client = anthropic.Anthropic(base_url={url!r}, api_key={secret!r}); "
        f"answer = client.messages.create(model={model!r}, max_tokens={OUTPUT_TOKENS_MAX}, messages={messages!r}); "
        "print(answer.content[0].text)"
    )
    return curl, code.replace("'", '"')


def _curl(url: str, headers: list[str], body: object) -> str:
    lines = [f"curl {shlex.quote(url)}", *(f"  -H {shlex.quote(header)}" for header in headers)]
    lines += ["  -H 'content-type: application/json'", f"  -d {shlex.quote(json.dumps(body))}"]
    return " \\\n".join(lines)


def _url(listen: Address) -> str:
    """An address to call: a server that listens everywhere is called here."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(listen.host)  # noqa: S104 - compared, not bound
    return f"http://{host}:{listen.port}" if host else f"http://{listen}"


def _python(dialect: str) -> tuple[str, bool]:
    """(interpreter, whether it has the SDK)."""
    if importlib.util.find_spec(dialect) is not None:
        return shlex.quote(str(nearby(Path(sys.executable)))), True
    return "python3", False
