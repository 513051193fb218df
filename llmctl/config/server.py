"""The [server] table of config.toml: where the gateway listens, whom it believes, what it bounds."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from llmctl.domain.errors import BadInput
from llmctl.domain.network import Networks, check_networks, networks_of

from .toml_table import Table

UNIX = "unix"  # stands for our unix socket, where an address is wanted
WORKERS_MAX = 64  # owner places in the database
CONNECT_S = 10.0
READ_S = 1_800.0  # reasoning models may think for minutes before the first byte
UNIX_PATH_BYTES_MAX = 107  # sockaddr_un: unix(7)

_HOST = re.compile(r"[\w.:%-]*", re.ASCII)
_PORT = re.compile(r"[0-9]{1,5}")
_MODE = re.compile(r"0?[0-7]{3}")


class Address(NamedTuple):
    """Host and port; or the path of a unix socket."""

    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Timeouts(NamedTuple):
    """Seconds. `connect_s` and `read_s` hold for every provider that has none of its own."""

    connect_s: float = CONNECT_S
    read_s: float = READ_S
    client_body_stall_s: float = 30.0
    client_write_stall_s: float = 60.0
    drain_s_max: float = 120.0  # how long an answer is read on after its client left
    shutdown_s: float = 60.0  # how long open calls may take at SIGTERM
    client_header_s: float = 10.0  # who opens a connection has something to say
    client_body_s_max: float = 600.0  # a whole body: who sends a byte now and then does not stall
    client_idle_s: float = 75.0  # between two requests; longer than the usual pools of clients keep a connection


class TrustedProxies(NamedTuple):
    """Who is believed about the clients that it connects for. `unix`: whoever may connect to our unix socket."""

    networks: Networks = ()
    unix: bool = False


class Tls(NamedTuple):
    """Files in PEM; the certificate with those between it and the root."""

    certificate: str
    key: str


class Server(NamedTuple):
    listen: Address = Address("127.0.0.1", 4000)
    listen_mode: int = 0o660  # of a unix socket: who may connect
    admin_listen: Address = Address("127.0.0.1", 4001)
    workers: int = 1
    body_bytes_max: int = 32 << 20  # vision calls carry base64 images
    body_bytes_inflight_max: int = 512 << 20  # to each worker; one user may take as much as is left for the others
    on_disconnect: str = "drain"  # or "cancel": what happens upstream when the client leaves
    synchronous: str = "FULL"
    connections_max: int = 20_000  # of clients, to each worker; a call takes two descriptors
    connections_per_address_max: int = 2_000  # to each worker; not of those whom we trust to name their clients
    trusted_proxies: TrustedProxies = TrustedProxies()
    forwarded_header: str = "x-forwarded-for"  # the one that those proxies write
    log: str = "auto"  # text, json; auto: text on a terminal
    access_log: bool = False  # a line for each request
    timeouts: Timeouts = Timeouts()
    tls: Tls | None = None

    @property
    def url(self) -> str:
        """Where clients connect."""
        if self.listen.path:
            return str(self.listen)
        return f"{'https' if self.tls else 'http'}://{self.listen}"


def parse_address(text: str) -> Address:
    """`127.0.0.1:4000`, `[::1]:4000`, `:4000`, `unix:/run/llmctl/llmctl.sock` -> Address. Raises BadInput."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or "\0" in path or len(os.fsencode(path)) > UNIX_PATH_BYTES_MAX:
            what = f"an absolute path of up to {UNIX_PATH_BYTES_MAX} bytes"
            raise BadInput(f"{text!r} is not a unix socket", hint=f"write {what}: unix:/run/llmctl/llmctl.sock")
        return Address("", 0, path)
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not _PORT.fullmatch(port) or int(port) > 65_535 or not _HOST.fullmatch(host):
        raise BadInput(f"{text!r} is not an address", hint="write it as 127.0.0.1:4000")
    return Address(host or "127.0.0.1", int(port))


def read_server(table: Table) -> Server:
    """Raises ConfigError."""
    default = Server()
    timeouts = table.table("timeouts")
    server = Server(
        listen=_address(table, "listen", default.listen),
        listen_mode=_mode(table, default.listen_mode),
        admin_listen=_address(table, "admin_listen", default.admin_listen),
        workers=table.integer("workers", default.workers, least=1, most=WORKERS_MAX),
        body_bytes_max=table.integer("body_bytes_max", default.body_bytes_max, least=1024),
        body_bytes_inflight_max=table.integer("body_bytes_inflight_max", default.body_bytes_inflight_max, least=1024),
        on_disconnect=table.choice("on_disconnect", default.on_disconnect, ("drain", "cancel")),
        synchronous=table.choice("synchronous", default.synchronous, ("FULL", "NORMAL", "EXTRA")),
        connections_max=table.integer("connections_max", default.connections_max, least=1),
        connections_per_address_max=table.integer(
            "connections_per_address_max", default.connections_per_address_max, least=1
        ),
        trusted_proxies=_trusted_proxies(table),
        forwarded_header=table.choice("forwarded_header", default.forwarded_header, ("x-forwarded-for", "forwarded")),
        log=table.choice("log", default.log, ("auto", "text", "json")),
        access_log=table.boolean("access_log", default.access_log),
        tls=_tls(table),
        timeouts=Timeouts(
            **{name: timeouts.seconds(name, getattr(default.timeouts, name)) for name in Timeouts._fields}
        ),
    )
    timeouts.finish()
    table.finish()
    if server.admin_listen.path:
        raise table.error("admin_listen", "must be a host and a port", 'write "127.0.0.1:4001"')
    if server.listen == server.admin_listen and server.listen.port:  # two ports that the system chooses differ
        raise table.error("admin_listen", f"is {server.listen}, as listen is", 'write another port: "127.0.0.1:4001"')
    if server.tls and server.listen.path:
        raise table.error("tls", "a unix socket has no TLS", "leave out [server.tls], or listen on a host and a port")
    return server


def _address(table: Table, key: str, default: Address) -> Address:
    try:
        return parse_address(table.string(key, str(default)))
    except BadInput as error:
        raise table.error(key, error.message, error.hint) from None


def _mode(table: Table, default: int) -> int:
    text = table.string("listen_mode", f"{default:04o}")
    if not _MODE.fullmatch(text):
        raise table.error("listen_mode", f"{text!r} is not a mode", f'listen_mode = "{default:04o}"')
    return int(text, 8)


def _tls(table: Table) -> Tls | None:
    if "tls" not in table.names():
        return None
    files = table.table("tls")
    tls = Tls(files.file("certificate", ""), files.file("key", ""))
    for key, value in (("certificate", tls.certificate), ("key", tls.key)):
        if not value:
            raise files.error(key, "TLS needs a certificate and its key", f'{key} = "/etc/llmctl/{key}.pem"')
    files.finish()
    return tls


def _trusted_proxies(table: Table) -> TrustedProxies:
    named = table.strings("trusted_proxies", ())
    networks = [text for text in named if text != UNIX]
    try:
        return TrustedProxies(networks_of(check_networks(networks)) if networks else (), UNIX in named)
    except BadInput as error:
        raise table.error("trusted_proxies", error.message, error.hint) from None
