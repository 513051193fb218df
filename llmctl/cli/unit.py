"""The systemd unit, as text. Directives: systemd.service(5), systemd.exec(5), of version 252 and later."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from llmctl.domain.errors import BadInput

from .errors import EXIT_CONFIG

STATE = Path("/var/lib/llmctl")  # as StateDirectory=llmctl says it
RUNTIME = Path("/run/llmctl")
CREDENTIALS = Path("/etc/llmctl/credentials")
PRIVILEGED_PORTS = 1024
STOP_MARGIN_S = 30  # after the last call: to book what was cut, to deliver an alert, to send what telemetry holds

# What it can do without: `systemd-analyze security` gives 1.2 (1.4 by the unit's file alone). Not ~@resources: asking
# for the limit on open files is one of them.
HARDENING = """\
NoNewPrivileges=yes
CapabilityBoundingSet={capabilities}
AmbientCapabilities={capabilities}
ProtectSystem=strict
ProtectHome={home}
ProtectProc=invisible
ProcSubset=pid
ProtectClock=yes
ProtectHostname=yes
ProtectControlGroups=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
PrivateDevices=yes
DevicePolicy=closed
PrivateTmp=yes
PrivateUsers={private_users}
RemoveIPC=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM
"""


@dataclass(frozen=True, slots=True)
class Unit:
    """What differs from machine to machine."""

    program: tuple[str, ...]  # how llmctl is called
    interpreter: Path  # what runs it in the end: a virtual environment has only a link to it
    config: Path
    database: Path
    user: str
    credentials: tuple[str, ...]  # variables that the configuration names
    port: int  # 0: a unix socket
    socket: str = ""
    shutdown_s: float = field(kw_only=True)  # how long open calls may take at the end

    def text(self) -> str:
        """Raises BadInput: a path that a unit cannot name."""
        state = self.database.parent
        command = " ".join(_word(part) for part in (*self.program, "serve", "--config", str(self.config)))
        privileged = 0 < self.port < PRIVILEGED_PORTS
        service = [
            "Type=notify",
            "NotifyAccess=main",
            f"ExecStart={command}",
            "ExecReload=/bin/kill -HUP $MAINPID",
            "WatchdogSec=30",
            "Restart=on-failure",
            f"RestartPreventExitStatus={EXIT_CONFIG}",
            f"TimeoutStopSec={math.ceil(self.shutdown_s) + STOP_MARGIN_S}",
            "KillMode=mixed",
            f"User={_word(self.user)}",
            "StateDirectory=llmctl",
            "StateDirectoryMode=0700",
            f"WorkingDirectory={_word(str(state))}",
            *([f"ReadWritePaths={_word(str(state))}"] if state != STATE else []),
            *self._runtime_directory(),
            "UMask=0077",
            "LimitNOFILE=65536",
            "LimitCORE=0",
            *(f"LoadCredential={name}:{CREDENTIALS / name}" for name in self.credentials),
        ]
        hardening = HARDENING.format(
            capabilities="CAP_NET_BIND_SERVICE" if privileged else "",
            private_users="no" if privileged else "yes",  # a capability of another user namespace opens no port here
            home="read-only" if any(map(_is_at_home, (*self.programs, self.config, state))) else "yes",
        )
        return (
            "[Unit]\nDescription=llmctl, a gateway to language models with keys, limits and metering\n"
            "Wants=network-online.target\nAfter=network-online.target\n\n"
            + "[Service]\n"
            + "\n".join(service)
            + f"\n{hardening}\n[Install]\nWantedBy=multi-user.target\n"
        )

    @property
    def programs(self) -> tuple[Path, ...]:
        """The files that the account has to be able to run, with what links lead to."""
        called = Path(self.program[0])
        return tuple(dict.fromkeys((called, called.resolve(), self.interpreter)))

    def _runtime_directory(self) -> Iterable[str]:
        """For a unix socket in /run/llmctl; whoever shall connect needs to reach it, its mode says who may."""
        if self.socket and Path(self.socket).parent == RUNTIME:
            yield "RuntimeDirectory=llmctl"
            yield "RuntimeDirectoryMode=0755"
        elif self.socket:
            yield f"ReadWritePaths={_word(str(Path(self.socket).parent))}"


def _is_at_home(path: Path) -> bool:
    return any(path.is_relative_to(home) for home in ("/home", "/root", "/run/user"))


def _word(text: str) -> str:
    """One word of a unit: percent signs and dollars mean themselves, blanks do not divide it."""
    if any(not char.isprintable() for char in text):
        raise BadInput(f"{text!r} cannot stand in a unit", hint="choose a path without control characters")
    escaped = text.replace("\\", "\\\\").replace("%", "%%").replace("$", "$$").replace('"', '\\"')
    return f'"{escaped}"' if " " in text or '"' in text else escaped
