"""config.example.toml: what it says must be so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llmctl import config
from llmctl.config import server as server_config
from llmctl.config.presets import PRESETS
from llmctl.domain.errors import ConfigError

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"
# Alternatives to a line that stands beside them, not defaults.
ALTERNATIVES = re.compile(
    r"(credential_file|credentials|catalogue|\[server\.tls\]|certificate|key = |models = \[\"gpt|\"chat\.completions\")"
)


def with_defaults(text: str) -> str:
    """The example with every commented default in force."""
    lines = []
    for line in text.splitlines():
        is_setting = re.match(r"# (\[[a-z.]+\]|[a-z_]+ = )", line) is not None
        uncommented = (
            line.removeprefix("# ") if is_setting and not ALTERNATIVES.match(line.removeprefix("# ")) else line
        )
        lines.append(uncommented)
    return "\n".join(lines)


def test_the_example_is_right(tmp_path: Path) -> None:
    found = config.load(EXAMPLE)
    assert set(found.providers) == {"openai", "anthropic", "local"}
    assert found.aliases == {"fast": "openai/gpt-5-mini"}


def test_what_is_commented_out_are_the_defaults(tmp_path: Path) -> None:
    full = tmp_path / "config.toml"
    full.write_text(with_defaults(EXAMPLE.read_text()))
    found, plain = config.load(full), config.load(EXAMPLE)
    assert found.server == plain.server == server_config.Server()
    assert found.bounds == plain.bounds
    assert found.alerts._replace(receivers={}) == plain.alerts
    same = {"path": plain.path, "database": plain.database, "providers": plain.providers, "alerts": plain.alerts}
    assert found._replace(**same) == plain


@pytest.mark.parametrize(
    "table",
    [
        "",
        "[server]",
        "[server.timeouts]",
        "[server.tls]\ncertificate = 'c'\nkey = 'k'",
        "[providers.openai]\nauth = 'bearer'",
        "[[providers.openai.credentials]]\nenv = 'A'",
        "[providers.openai.timeouts]",
        "[providers.azure]\nbase_url = 'https://x'\n"
        "[providers.azure.entra]\ntenant_id = 't'\nclient_id = 'c'\nsecret_env = 'S'",
        "[providers.vertex]\nbase_url = 'https://x/v1'\nservice_account_file = 'f'",
        "[retries]",
        "[demand]",
        "[alerts]",
        "[alerts.to.ops]\nurl = 'https://x/'",
        "[alerts.to.mail]\nkind = 'email'\nsender = 'a@x'\nrecipients = ['b@x']",
        "[alerts.to.pager]\nkind = 'command'\nrun = ['/bin/true']",
        "[telemetry]",
        "[content]",
    ],
)
def test_every_key_is_in_the_example(tmp_path: Path, table: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f"{table}\nzz = 1\n")
    with pytest.raises(ConfigError) as failed:
        config.load(path)
    _, found, known = failed.value.hint.partition("known here: ")
    assert found, failed.value
    place = placed(table)
    text = "".join(part for name, part in parts() if name == place)
    tables = [f"{name}." for name, _ in parts()]

    def is_named(key: str) -> bool:
        is_table = any(name.startswith(f"{place}.{key}.".lstrip(".")) for name in tables)
        return is_table or re.search(rf"\b{key} = |\b{key} or |\bor {key}\b", text) is not None

    assert [key for key in known.split(", ") if not is_named(key)] == []


def parts() -> list[tuple[str, str]]:
    """The example's text by the table that it is in."""
    first, *rest = re.split(r"^(?:# )?\[([a-z_.]+)\]", EXAMPLE.read_text(), flags=re.MULTILINE)
    return [("", first), *((placed(f"[{name}]"), text) for name, text in zip(rest[::2], rest[1::2], strict=True))]


def placed(table: str) -> str:
    """Whatever the name of the provider or receiver; what stands in braces is in the table around."""
    name = table.partition("\n")[0].strip("[]").removesuffix(".credentials")
    return re.sub(r"^(providers|alerts\.to)\.[a-z]+", r"\1.NAME", name)


def test_every_well_known_provider_is_named() -> None:
    text = EXAMPLE.read_text()
    for name in PRESETS:
        assert name in text
