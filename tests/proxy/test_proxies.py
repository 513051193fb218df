"""What proxies say of their clients, as values."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request

from llmctl.config.server import TrustedProxies
from llmctl.domain.network import networks_of
from llmctl.proxy.addresses import Proxies

LOCAL = TrustedProxies(networks_of("127.0.0.1/32, 10.0.0.0/8"))


def client(trusted: TrustedProxies, header: str, written: list[str], peer: str = "127.0.0.1") -> str:
    request = make_mocked_request("POST", "/", headers=[(header, value) for value in written]).clone(remote=peer)
    return Proxies(trusted, header).client_of(request)


def test_strangers_are_not_believed() -> None:
    assert client(LOCAL, "x-forwarded-for", ["192.0.2.1"], peer="203.0.113.5") == "203.0.113.5"
    assert client(TrustedProxies(), "x-forwarded-for", ["192.0.2.1"]) == "127.0.0.1"
    assert client(LOCAL, "x-forwarded-for", ["192.0.2.1"], peer="") == ""
    assert client(TrustedProxies(unix=True), "x-forwarded-for", ["192.0.2.1"], peer="") == "192.0.2.1"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (["for=192.0.2.60;proto=http;by=203.0.113.43"], "192.0.2.60"),
        (['For="[2001:db8:cafe::17]:4711"'], "2001:db8:cafe::17"),
        (["for=6.6.6.6, for=192.0.2.60;proto=https"], "192.0.2.60"),
        (["for=6.6.6.6", "for=192.0.2.60, for=10.0.0.3"], "192.0.2.60"),
        (["for=_hidden"], ""),
        (["proto=https"], ""),
    ],
)
def test_forwarded_is_read_as_rfc_7239_has_it(written: list[str], expected: str) -> None:
    assert client(LOCAL, "forwarded", written) == expected


def test_a_flood_of_invented_hops_costs_little_and_hides_nothing() -> None:
    assert client(LOCAL, "x-forwarded-for", [", ".join(["6.6.6.6"] * 5_000) + ", 192.0.2.9"]) == "192.0.2.9"
