"""TLS for those without a proxy in front: certificate and key from files, read again when they change."""

from __future__ import annotations

import logging
import os
import ssl

from llmctl.config.server import Tls
from llmctl.domain.errors import ConfigError

from .turns import take_turns

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0
ALPN = ["http/1.1"]

Stamp = tuple[tuple[int, int, int], ...]


def context_of(tls: Tls) -> ssl.SSLContext:
    """Raises ConfigError: a file cannot be read, or they do not belong together."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(ALPN)
    try:
        # A key with a passphrase is refused instead of asked for: nobody sits before a daemon.
        context.load_cert_chain(tls.certificate, tls.key, password=lambda: "")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or "unreadable"
        what = f"cannot use the certificate {tls.certificate} with the key {tls.key}: {reason}"
        raise ConfigError(what, hint="name two PEM files that belong together and that llmctl may read") from None
    return context


class Certificate:
    """`context` stays, and hands each new connection to the newest files that are right."""

    def __init__(self, tls: Tls) -> None:
        """Raises ConfigError."""
        self._tls = tls
        self._stamp = _stamp(tls)
        self._newest = self.context = context_of(tls)
        self.context.sni_callback = self._hand_over

    def configure(self, tls: Tls) -> None:
        """Other files from now on. Raises ConfigError: then those of before stay."""
        stamp = _stamp(tls)
        self._newest = context_of(tls)
        self._tls, self._stamp = tls, stamp

    async def run(self) -> None:
        await take_turns("the certificate", self.look, LOOK_EVERY_S)

    async def look(self) -> None:
        """Files that changed are taken over; those that do not belong together yet are looked at again."""
        if _stamp(self._tls) == self._stamp:
            return
        try:
            self.configure(self._tls)
        except ConfigError as error:
            logger.warning("the certificate of before stays: %s", error)
        else:
            logger.info("took over a new certificate")

    def _hand_over(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._newest


def _stamp(tls: Tls) -> Stamp:
    found = []
    for file in (tls.certificate, tls.key):
        try:
            status = os.stat(file)  # noqa: PTH116 - follows links: renewals exchange them
        except OSError:
            found.append((0, 0, 0))
        else:
            found.append((status.st_ino, status.st_mtime_ns, status.st_size))
    return tuple(found)
