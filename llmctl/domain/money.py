"""Money is integer nano-USD (10^-9 USD) everywhere; prices are nano-USD per million units. No floats."""

from __future__ import annotations

from typing import Literal

from .errors import BadInput

NANO_PER_USD = 1_000_000_000
NANO_DIGITS = 9
PRICE_UNITS = 1_000_000  # prices are per million units, so that $0.000000001 per token is still an integer
AMOUNT_NANO_MAX = 10**9 * NANO_PER_USD  # a billion dollars: keeps every sum inside SQLite's 63 bits


def parse_usd(text: str) -> int:
    """`200`, `200.50` -> nano-USD. Refuses signs, exponents, currency symbols and more than nine decimals."""
    cleaned = text.strip()
    if not cleaned or not all(c.isascii() and (c.isdigit() or c == ".") for c in cleaned):
        raise BadInput(f"{text!r} is not an amount of USD", hint="write it as 200 or 200.50")
    whole, _, decimals = cleaned.partition(".")
    whole, decimals = whole.lstrip("0"), decimals.rstrip("0")
    if "." in decimals or cleaned == ".":
        raise BadInput(f"{text!r} is not an amount of USD", hint="write it as 200 or 200.50")
    if len(decimals) > NANO_DIGITS:
        raise BadInput(f"{text!r} has more than nine decimals", hint="the smallest amount is 0.000000001")
    # Its length first: Python refuses to read thousands of digits.
    if len(whole) > NANO_DIGITS + 1 or (nano := int(whole + decimals.ljust(NANO_DIGITS, "0"))) > AMOUNT_NANO_MAX:
        raise BadInput(f"{text!r} is too large", hint="the largest amount is 1000000000")
    return nano


def usd_exact(nano: int) -> str:
    """Nano-USD as USD with nine decimals, for JSON, CSV and error bodies: `0.000123000`."""
    sign = "-" if nano < 0 else ""
    whole, rest = divmod(abs(nano), NANO_PER_USD)
    return f"{sign}{whole}.{rest:09d}"


def usd_short(nano: int) -> str:
    """Nano-USD for people: `$1,412.94`, `<$0.01` for less than a cent, `$0.00` only for nothing."""
    sign = "-" if nano < 0 else ""
    if 0 < abs(nano) < NANO_PER_USD // 100:
        return f"{sign}<$0.01"
    cents = (abs(nano) + NANO_PER_USD // 200) // (NANO_PER_USD // 100)
    return f"{sign}${cents // 100:,}.{cents % 100:02d}"


def usd_fine(nano: int, rounded: Literal["", "up", "down"] = "") -> str:
    """Nano-USD where fractions of a cent decide: `$1,412.94`, `$0.0629`, `$0.00001`. `rounded`: of two amounts that are
    compared, the larger one up and the smaller one down; "" = to the nearest."""
    if rounded and nano >= NANO_PER_USD // 10_000:
        step = NANO_PER_USD // (100 if nano >= NANO_PER_USD else 10_000)
        nano = (nano if rounded == "down" else nano + step - 1) // step * step
    if abs(nano) >= NANO_PER_USD or nano == 0:
        return usd_short(nano)
    if abs(nano) < NANO_PER_USD // 10_000:
        return f"${usd_plain(nano)}"
    whole, _, rest = usd_exact(nano + NANO_PER_USD // 20_000).partition(".")
    return f"${whole}.{rest[:4]}"


def usd_set(nano: int) -> str:
    """Nano-USD that somebody chose, for people, and exact: `$1,412.00`, `$0.0151`."""
    whole, _, rest = usd_plain(nano).partition(".")
    return f"${int(whole):,}.{rest}"


def usd_plain(nano: int) -> str:
    """Nano-USD as the shortest exact decimal with at least two places: `0.25`, `0.0000125`."""
    whole, _, rest = usd_exact(nano).partition(".")
    return f"{whole}.{rest.rstrip('0').ljust(2, '0')}"
