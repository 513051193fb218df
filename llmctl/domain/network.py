"""From where a call may come: networks as text in configuration and database, addresses as proxies write them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from .errors import BadInput

Address = IPv4Address | IPv6Address
Networks = tuple[IPv4Network | IPv6Network, ...]

NETWORKS_MAX = 100  # each call looks at them one by one


def check_networks(texts: Iterable[str]) -> str:
    """`("10.0.0.0/8", "192.0.2.7,::1")` -> `10.0.0.0/8, 192.0.2.7/32, ::1/128`: as it is kept. Raises BadInput."""
    found: list[str] = []
    for text in texts:
        for part in text.replace(",", " ").split():
            try:
                found.append(str(ip_network(part)))
            except ValueError:
                raise BadInput(f"{part!r} is no network", hint=_mended(part)) from None
    if not found:
        raise BadInput("no network is named", hint="write one as 10.0.0.0/8 or 192.0.2.7")
    if len(found) > NETWORKS_MAX:
        raise BadInput(f"{len(found)} networks are too many", hint=f"name up to {NETWORKS_MAX}, wider ones")
    return ", ".join(dict.fromkeys(found))


@lru_cache(maxsize=4096)
def networks_of(kept: str) -> Networks:
    """What `check_networks` returned, to be asked."""
    return tuple(ip_network(part) for part in kept.split(", "))


def address_of(text: str) -> Address | None:
    """`192.0.2.7`, `[2001:db8::1]:4711`, `::ffff:192.0.2.7` (which is 192.0.2.7) -> the address; None: it is none."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def is_within(address: Address | None, networks: Networks) -> bool:
    """An address that is not known is nowhere."""
    return address is not None and any(address in network for network in networks)


def _mended(text: str) -> str:
    try:
        return f"did you mean {ip_network(text, strict=False)}?"
    except ValueError:
        return "write one as 10.0.0.0/8 or 192.0.2.7"
