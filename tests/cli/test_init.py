from __future__ import annotations

import json
import shlex
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest

from llmctl.store import callers
from llmctl.store.database import Store
from tests.support.daemon import AS_ANYBODY, LLMCTL

from .conftest import Cli
from .shop import NOW_S


@pytest.fixture(autouse=True)
def few_prices(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Importing the whole catalogue takes half a second: one test here does."""
    if "whole_catalogue" not in request.keywords and request.node.name != "test_init_makes_both_files_with_all_prices":
        from llmctl.store import catalogue

        monkeypatch.setattr(catalogue, "from_genai_prices", lambda: catalogue.Catalogue((), "none", {}))


def test_init_makes_both_files_with_all_prices(bare_cli: Cli, home: Path) -> None:
    made = bare_cli("init")
    assert "Created config.toml  providers: sandbox, a built-in stand-in" in made.out
    assert "prices of genai-prices" in made.out
    assert (
        made.out.splitlines()[-3:]
        == [
            "  llmctl limit set --org --cost 200 --per month",
            "  llmctl user add alice",
            "  llmctl serve",
        ]
        or "limit set --org" in made.out
    )
    assert stat.S_IMODE((home / "llmctl.db").stat().st_mode) == 0o600
    assert "providers" in tomllib.loads((home / "config.toml").read_text())
    assert len(bare_cli.json("price", "list", "--all")) > 1_000
    assert {row["model"] for row in bare_cli.json("price", "list")} >= {"sandbox-small", "sandbox-large"}
    assert bare_cli.json("price", "show", "sandbox-small")["usd_per_million"]["input"] == "0.250000000"


def test_providers_whose_credential_is_in_the_environment_are_entered_without_it(
    bare_cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-provider-secret")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-secret")
    made = bare_cli.json("init")
    assert made["providers"] == ["openai", "anthropic"]
    text = (home / "config.toml").read_text()
    assert "secret" not in text
    assert tomllib.loads(text)["providers"]["openai"] == {"credential_env": "OPENAI_API_KEY"}
    assert bare_cli.json("config", "check")["missing_credentials"] == []
    monkeypatch.delenv("OPENAI_API_KEY")
    assert bare_cli.json("config", "check")["missing_credentials"] == ["openai"]


def test_a_secret_for_alerts_that_is_not_there_is_said_before_the_alert(
    bare_cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare_cli("init")
    with (home / "config.toml").open("a") as config:
        config.write('[alerts.to.ops]\nurl_env = "HOOK_URL"\nsecret_env = "HOOK_SECRET"\n')
    monkeypatch.setenv("HOOK_URL", "https://hooks.example.com")
    assert "! alerts.to.ops: HOOK_SECRET is empty or not set" in bare_cli("config", "check").out
    assert bare_cli.json("config", "check")["missing_for_alerts"] == ["ops"]
    (home / "HOOK_SECRET").write_text("loaded by systemd\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(home))
    assert bare_cli.json("config", "check")["missing_for_alerts"] == []


def test_a_provider_with_an_address_for_each_region_is_entered_where_one_is_set(
    bare_cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "x")
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "x")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    assert bare_cli.json("init")["providers"] == ["anthropic"]
    (home / "config.toml").unlink()
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert bare_cli.json("init", "--if-not-exists")["providers"] == ["anthropic", "bedrock"]
    assert tomllib.loads((home / "config.toml").read_text())["providers"]["bedrock"]["region"] == "eu-west-1"


def test_a_provider_whose_address_is_everybodys_own_is_not_entered(
    bare_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AZURE_OPENAI_API_KEY", "DATABRICKS_TOKEN", "CLOUDFLARE_API_TOKEN", "ANTHROPIC_API_KEY"):
        monkeypatch.setenv(name, "x")
    assert bare_cli.json("init")["providers"] == ["anthropic"]


def test_a_written_configuration_is_right_and_trusted_whatever_the_umask(
    bare_cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    before = os.umask(0)
    try:
        bare_cli("init")
    finally:
        os.umask(before)
    assert "is right" in bare_cli("config", "check").out
    assert bare_cli("config", "path").out == "config.toml\n"


def test_init_again_fails_and_keeps_all_or_is_told_to_keep(bare_cli: Cli, home: Path) -> None:
    bare_cli("init")
    before = (home / "config.toml").read_text()
    assert bare_cli("init", code=1).err == (
        "error: config.toml exists already; keep it with: llmctl init --if-not-exists\n"
    )
    kept = bare_cli("init", "--if-not-exists", "--demo")
    assert kept.out.startswith("Kept    config.toml")
    assert "sk-llmctl" not in kept.out
    assert (home / "config.toml").read_text() == before


def test_init_makes_what_is_missing(bare_cli: Cli, home: Path) -> None:
    bare_cli("init")
    (home / "llmctl.db").unlink()
    made = bare_cli.json("init", "--if-not-exists")
    assert (made["config_created"], made["database_created"]) == (False, True)


def test_a_failed_init_leaves_nothing(bare_cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("no catalogue")

    monkeypatch.setattr("llmctl.store.catalogue.from_genai_prices", broken)
    bare_cli("init", code=1)
    assert not list(home.iterdir())


def test_the_demo_key_works_and_its_lines_are_valid_shell_and_python(bare_cli: Cli, home: Path) -> None:
    made = bare_cli.json("init", "--demo")
    secret = made["demo"]["key"]["secret"]
    store = Store(home / "llmctl.db", readonly=True)
    assert callers.load(store.connection, secret, now_s=NOW_S).user_name == "demo"
    store.close()
    for file in ("llmctl.db", "config.toml"):
        (home / file).unlink()
    lines = bare_cli("init", "--demo").out
    paste = lines[lines.index("curl ") :].split("\n\n")
    curl = shlex.split(paste[0].replace("\\\n", " "))
    assert curl[:2] == ["curl", "http://127.0.0.1:4000/v1/chat/completions"]
    assert json.loads(curl[-1])["model"] == "sandbox-small"
    python = shlex.split(paste[2])
    assert python[1] == "-c"
    compile(python[2], "pasted", "exec")
    assert paste[-1].strip().endswith("usage --group demo")
    assert subprocess.run(["sh", "-n", "-c", paste[2]], check=False).returncode == 0


def test_the_demo_speaks_the_dialect_of_the_only_provider(bare_cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "x")
    shown = bare_cli("init", "--demo").out
    assert "/v1/messages" in shown
    assert "import anthropic" in shown


def test_no_directory_names_the_mend(bare_cli: Cli) -> None:
    assert bare_cli("init", "--config", "nowhere/config.toml", code=1).err == (
        "error: no directory nowhere; mkdir -p nowhere\n"
    )


def test_where_no_database_can_be_nothing_is_written(bare_cli: Cli, home: Path) -> None:
    told = "error: no directory sub; mkdir -p sub\n"
    assert bare_cli("init", "--database", "sub/x.db", code=1).err == told
    assert not list(home.iterdir())
    (home / "shut").mkdir(mode=0o555)
    command = [*AS_ANYBODY, str(LLMCTL), "init", "--database", "shut/x.db"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr[:44]) == (1, f"error: {home / 'shut'} may not be written"[:44])
    assert [path.name for path in home.iterdir()] == ["shut"]


@pytest.mark.parametrize("content", [b"", b"not a database, but long enough to be taken for one" * 20])
def test_what_is_no_database_of_ours_is_neither_kept_nor_said_to_be_kept(
    bare_cli: Cli, home: Path, content: bytes
) -> None:
    (home / "llmctl.db").write_bytes(content)
    for flags in ([], ["--if-not-exists"]):
        failed = bare_cli("init", *flags, code=1)
        assert "is not a" in failed.err and "exists already" not in failed.err
    assert [path.name for path in home.iterdir()] == ["llmctl.db"]


def test_a_named_database_is_found_again_without_naming_it(bare_cli: Cli, home: Path) -> None:
    (home / "data").mkdir()
    bare_cli("init", "--database", "data/org.db")
    assert tomllib.loads((home / "config.toml").read_text())["database"] == "data/org.db"
    assert bare_cli.json("user", "list") == []


def test_what_would_keep_it_is_the_same_command(bare_cli: Cli, system: Path) -> None:
    for flags in ([], ["--config", "other file.toml", "--database", "x.db"]):
        bare_cli("init", *flags)
        failed = bare_cli("init", *flags, code=1).err
        assert bare_cli(*shlex.split(failed.partition("keep it with: llmctl")[2])).out.count("Kept") == 2
    bare_cli("init", "--system")
    assert "keep it with: sudo llmctl init --system --if-not-exists" in bare_cli("init", "--system", code=1).err


def test_what_comes_next_finds_what_was_made_elsewhere(bare_cli: Cli, home: Path) -> None:
    def follows(*args: str) -> list[str]:
        command = bare_cli("init", *args).out.splitlines()[-2].strip()
        words = shlex.split(command.partition("llmctl")[2])
        bare_cli(*words)
        return words

    elsewhere = ["--config", "other file.toml"]
    assert follows(*elsewhere, "--database", "x.db") == [*elsewhere, "user", "add", "alice"]
    another = [*elsewhere, "--database", "y.db"]
    assert follows(*another, "--if-not-exists") == [*another, "user", "add", "alice"]
    assert follows() == ["user", "add", "alice"]
    shown = bare_cli("init", "--demo", "--config", "demo.toml", "--database", "demo.db").out
    assert shown.endswith("llmctl --config demo.toml usage --group demo\n")


@pytest.fixture
def system(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The machine's own places, below a directory of the test."""
    monkeypatch.setattr("llmctl.config.SYSTEM_CONFIG", home / "etc" / "llmctl" / "config.toml")
    monkeypatch.setattr("llmctl.cli.init.STATE", home / "var" / "llmctl")
    return home


def test_for_the_whole_machine_the_files_are_found_from_anywhere(
    bare_cli: Cli, system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare_cli("init", "--system")
    assert tomllib.loads((system / "etc/llmctl/config.toml").read_text())["database"] == str(
        system / "var/llmctl/llmctl.db"
    )
    assert stat.S_IMODE((system / "etc/llmctl").stat().st_mode) == 0o755
    assert stat.S_IMODE((system / "var/llmctl").stat().st_mode) == 0o700
    (system / "elsewhere").mkdir()
    monkeypatch.chdir(system / "elsewhere")
    assert bare_cli("config", "path").out.strip() == str(system / "etc/llmctl/config.toml")
    assert bare_cli.json("user", "list") == []
    assert "exists already" in bare_cli("init", "--system", code=1).err
    assert "Kept" in bare_cli("init", "--system", "--if-not-exists").out
    assert "leave out --config" in bare_cli("init", "--system", "--config", "x.toml", code=2).err
    (system / "var/llmctl/llmctl.db").unlink()
    assert "or: sudo llmctl init --system --if-not-exists\n" in bare_cli("user", "list", code=1).err
