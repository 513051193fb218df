"""The unit of systemd: systemd itself finds nothing wrong with it."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from llmctl.cli import service
from llmctl.cli.unit import Unit

from .conftest import Cli

SYSTEMD = shutil.which("systemd-analyze")
CONFIG, DATABASE = Path("/etc/llmctl/config.toml"), Path("/var/lib/llmctl/llmctl.db")
needs_systemd = pytest.mark.skipif(SYSTEMD is None, reason="systemd is not here")


def test_the_unit_is_for_this_configuration(cli: Cli, empty: Path) -> None:
    unit = cli("service", "print").out
    assert f"serve --config {empty}/config.toml\n" in unit
    assert f"WorkingDirectory={empty}\n" in unit
    assert "LoadCredential=OPENAI_API_KEY:/etc/llmctl/credentials/OPENAI_API_KEY\n" in unit
    for line in ("Type=notify", "NotifyAccess=main", "ExecReload=/bin/kill -HUP $MAINPID", "WatchdogSec=30"):
        assert f"\n{line}\n" in unit
    for line in ("RestartPreventExitStatus=78", "TimeoutStopSec=90", "KillMode=mixed", "User=llmctl", "UMask=0077"):
        assert f"\n{line}\n" in unit
    assert "\nUser=gateway\n" in cli("service", "print", "--run-as", "gateway").out
    assert cli.json("service", "print")["unit"] == unit


def test_it_may_take_as_long_to_stop_as_calls_may_and_gets_the_secrets_for_alerts(cli: Cli, empty: Path) -> None:
    with (empty / "config.toml").open("a") as config:
        config.write("[server.timeouts]\nshutdown_s = 599.5\n")
        config.write('[alerts.to.ops]\nurl_env = "HOOK_URL"\nsecret_env = "HOOK_SECRET"\n')
    unit = cli("service", "print").out
    assert "\nTimeoutStopSec=630\n" in unit
    loaded = re.findall(r"LoadCredential=(\w+):", unit)
    assert loaded == ["HOOK_SECRET", "HOOK_URL", "OPENAI_API_KEY"]


def test_a_port_of_the_privileged_and_a_unix_socket_get_what_they_need(cli: Cli, empty: Path) -> None:
    config = empty / "config.toml"
    plain = config.read_text()
    assert "\nCapabilityBoundingSet=\n" in cli("service", "print").out
    config.write_text(plain.replace("[providers.openai]", '[server]\nlisten = "0.0.0.0:443"\n[providers.openai]'))
    assert "\nAmbientCapabilities=CAP_NET_BIND_SERVICE\n" in cli("service", "print").out
    listen = '[server]\nlisten = "unix:/run/llmctl/llmctl.sock"\n[providers.openai]'
    config.write_text(plain.replace("[providers.openai]", listen))
    assert "\nRuntimeDirectory=llmctl\n" in cli("service", "print").out


def test_it_is_installed_once_and_replaced_only_when_told(cli: Cli, tmp_path: Path) -> None:
    units = tmp_path / "units"
    units.mkdir()
    command = ("service", "install", "--directory", str(units))
    assert "Would write" in cli(*command, "--dry-run").out
    assert not (units / "llmctl.service").exists()
    said = cli(*command).out
    assert "systemctl enable --now llmctl.service" in said
    assert "install -m 0600 /dev/stdin /etc/llmctl/credentials/OPENAI_API_KEY" in said
    assert (units / "llmctl.service").read_text() == cli("service", "print").out
    assert "unchanged" in cli(*command).out
    (units / "llmctl.service").write_text("mine")
    assert "nobody is there to answer" in cli(*command, code=1).err
    assert (units / "llmctl.service").read_text() == "mine"
    cli(*command, "--yes")
    assert (units / "llmctl.service").read_text() != "mine"
    failed = cli("service", "install", "--directory", str(tmp_path / "nowhere"), code=1)
    assert failed.err.count("\n") == 1 and "sudo" in failed.err


def test_what_the_account_could_not_start_or_read_is_said(cli: Cli, tmp_path: Path, empty: Path) -> None:
    empty.chmod(0o700)
    command = ("service", "install", "--directory", str(tmp_path), "--yes", "--run-as", "nobody")
    (warning,) = (line for line in cli.json(*command)["warnings"] if "config.toml" in line)
    assert "which is not open to nobody: the service could not start" in warning
    for said in (cli(*command[:-1], "nobody-there").out, cli(*command[:-1], "nobody-there").out):  # also when unchanged
        assert f"! {warning}\n" in said.replace("nobody-there", "nobody")
    found = Unit(("/bin/sh",), Path("/bin/sh"), Path("/etc/passwd"), DATABASE, "nobody", (), 4000, shutdown_s=60)
    assert service._warnings(found) == []


def test_an_interpreter_at_home_can_be_reached() -> None:
    unit = Unit(
        ("/opt/llmctl/bin/llmctl",), Path("/usr/bin/python3"), CONFIG, DATABASE, "llmctl", (), 4000, shutdown_s=60
    )
    assert "\nProtectHome=yes\n" in unit.text()
    at_home = replace(unit, interpreter=Path("/root/.pyenv/versions/3.11.7/bin/python3.11"))
    assert "\nProtectHome=read-only\n" in at_home.text()


@needs_systemd
def test_systemd_finds_nothing_wrong_and_little_exposed(cli: Cli, tmp_path: Path) -> None:
    unit = tmp_path / "llmctl.service"
    text = cli("service", "print").out
    # Whatever this test runs in may lie where the unit of a real installation would not.
    unit.write_text(re.sub(r"ExecStart=.*? serve", "ExecStart=/bin/true serve", text))
    assert SYSTEMD is not None
    verified = subprocess.run([SYSTEMD, "verify", str(unit)], capture_output=True, text=True, timeout=60)
    about_it = [line for line in verified.stderr.splitlines() if "llmctl" in line]
    assert (verified.returncode, about_it) == (0, [])
    rated = subprocess.run(
        [SYSTEMD, "security", "--offline=true", "--no-pager", str(unit)], capture_output=True, text=True, timeout=60
    )
    exposure = re.search(r"Overall exposure level for llmctl\.service: ([0-9.]+)", rated.stdout)
    assert exposure and float(exposure[1]) <= 1.5, rated.stdout


def test_a_path_is_one_word_and_nothing_else(cli: Cli, empty: Path) -> None:
    odd = empty / "of 100% $HOME"
    odd.mkdir()
    shutil.copy(empty / "config.toml", odd / "config.toml")
    unit = cli("service", "print", "--config", str(odd / "config.toml")).out
    assert f'--config "{empty}/of 100%% $$HOME/config.toml"\n' in unit
