"""config.example.toml: what it says must be so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llmctl import config
from llmctl.config import server as server_config
from llmctl.config.presets import PRESETS

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


@pytest.mark.parametrize("table", [server_config.Server, server_config.Timeouts, type(config.load(EXAMPLE).bounds)])
def test_every_key_is_in_the_example(table: type) -> None:
    text = EXAMPLE.read_text()
    for name in table._fields:
        assert re.search(rf"^#? ?\[?(server\.)?{name}\b", text, re.MULTILINE), name


def test_every_well_known_provider_is_named() -> None:
    text = EXAMPLE.read_text()
    for name in PRESETS:
        assert name in text
