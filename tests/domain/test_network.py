"""Networks as people write them, addresses as proxies do."""

from __future__ import annotations

import pytest

from llmctl.domain.errors import BadInput
from llmctl.domain.network import address_of, check_networks, is_within, networks_of


@pytest.mark.parametrize(
    ("texts", "kept"),
    [
        (["10.0.0.0/8"], "10.0.0.0/8"),
        (["192.0.2.7", "::1"], "192.0.2.7/32, ::1/128"),
        (["10.0.0.0/8, 192.0.2.7  10.0.0.0/8"], "10.0.0.0/8, 192.0.2.7/32"),
        (["2001:DB8::/32"], "2001:db8::/32"),
    ],
)
def test_networks_are_kept_in_one_spelling(texts: list[str], kept: str) -> None:
    assert check_networks(texts) == kept
    assert check_networks([kept]) == kept


@pytest.mark.parametrize(
    ("text", "said"),
    [("10.0.0.1/8", "did you mean 10.0.0.0/8?"), ("office", "write one as"), ("10.0.0.0/33", "write one as"), ("", "")],
)
def test_what_is_no_network_is_said_with_what_to_write(text: str, said: str) -> None:
    with pytest.raises(BadInput) as error:
        check_networks([text])
    assert said in error.value.hint


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        (" 192.0.2.7:4711 ", "192.0.2.7"),
        ('"[2001:db8::1]:4711"', "2001:db8::1"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::1"),
        ("unknown", "None"),
        ("_hidden", "None"),
        ("", "None"),
    ],
)
def test_an_address_is_found_in_what_proxies_write(text: str, address: str) -> None:
    assert str(address_of(text)) == address


def test_an_address_lies_within_networks_of_its_own_kind() -> None:
    networks = networks_of("10.0.0.0/8, 2001:db8::/32")
    assert is_within(address_of("10.1.2.3"), networks)
    assert is_within(address_of("::ffff:10.1.2.3"), networks)
    assert is_within(address_of("2001:db8::5"), networks)
    assert not is_within(address_of("11.0.0.1"), networks)
    assert not is_within(address_of("::1"), networks)
    assert not is_within(None, networks)
