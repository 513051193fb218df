"""What a call costs, and the most that one could cost. Integers only: nano-USD per million units.

A price has a tariff: one rate per meter. Meters of tokens form a tree: a part without a rate of its own is
billed at its parent's (the rate of `output` holds for reasoning tokens, and so on), as the providers' price
lists mean it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from .money import PRICE_UNITS
from .usage import COUNT_MAX, USAGE_CLASSES, Usage

# Token meters and the meter whose rate holds where they have none. Rates are per million tokens.
PARENT: Mapping[str, str] = {
    "input": "",
    "cache_read": "input",
    "cache_write": "input",
    "cache_write_1h": "cache_write",
    "input_audio": "input",
    "input_image": "input",
    "input_video": "input",
    "cache_audio_read": "cache_read",
    "cache_image_read": "cache_read",
    "output": "",
    "reasoning": "output",
    "output_audio": "output",
    "output_image": "output",
    "output_video": "output",
}
# Rates per million calls; `request` counts each call of ours, the others the tool calls inside it.
IMAGE_TOOL = "image_generation"
TOOL_METERS = ("web_search", "web_search_preview", "map_search", "file_search", "code_interpreter", IMAGE_TOOL)
# Searches of one kind cost what others do, where a price does not tell them apart.
TOOL_PARENT: Mapping[str, str] = {"web_search_preview": "web_search", "map_search": "web_search"}
# Rates per million tokens of the model behind that tool, where an answer says how many: then its calls are not billed
# too.
IMAGE_TOOL_OUTPUT = "image_tool_output_tokens"
IMAGE_TOOL_METERS = ("image_tool_text_tokens", "image_tool_image_tokens", IMAGE_TOOL_OUTPUT)
# Rates per million of what a model bills instead of tokens, or beside them.
UNIT_METERS = (*IMAGE_TOOL_METERS, "audio_seconds", "characters", "images", "pages", "search_units")
METERS: tuple[str, ...] = (*PARENT, "request", *TOOL_METERS, *UNIT_METERS)
SIDES = ("input", "output")  # what has no parent
_OF_TEXT = frozenset((*PARENT, "request"))
_FALLBACK: Mapping[str, str] = {**PARENT, **TOOL_PARENT}

# Where these stand among the classes: the parts of the input before one, those of the output before the other.
_OUTPUT, _CALLS = USAGE_CLASSES.index("output_tokens"), USAGE_CLASSES.index("web_search_calls")
# Meter and class of usage, in the order of the classes.
_COUNTED = (*((meter, f"{meter}_calls") for meter in TOOL_METERS), *((meter, meter) for meter in UNIT_METERS))

_MEDIA_INPUT = ("input_audio", "input_image", "input_video", "cache_audio_read", "cache_image_read")
_MEDIA_OUTPUT = ("output_audio", "output_image", "output_video")

CacheWrites = Literal["", "5m", "1h", "implicit"]

DAY_S = 86_400

# Names of the standard tier. Other tiers cost no more, or may be a premium.
STANDARD_TIERS = frozenset({"", "auto", "default", "standard", "standard_only"})
_CHEAP_TIERS = STANDARD_TIERS | {"flex", "batch"}
_UNKNOWN_TIER = "?"
# "via Novita": a tier that the provider chooses, whatever was asked for. OpenRouter passes a call on to one of several
# others, each with a price of its own: https://openrouter.ai/docs/guides/routing/provider-selection
VIA = "via "
# "us", "fast us": where it had to be served costs a tenth more, for all tokens, whatever the tier:
# https://platform.claude.com/docs/en/manage-claude/data-residency
US = "us"
_US_TENTHS = 11


@dataclass(frozen=True, slots=True)
class Rate:
    """Nano-USD per million units. A step `(above, rate)` prices the whole call, not only what lies above it,
    once its total input exceeds `above` tokens: so OpenAI, Anthropic, Google and xAI bill long contexts.
    """

    base: int
    steps: tuple[tuple[int, int], ...] = ()  # ascending by their first number

    def at(self, input_tokens: int) -> int:
        rate = self.base
        for above, step_rate in self.steps:
            if input_tokens > above:
                rate = step_rate
        return rate

    def dearest(self, input_tokens: int) -> int:
        """The highest rate that a call of at most this many input tokens can meet."""
        return max(self.base, *(rate for above, rate in self.steps if input_tokens > above), 0)


_FREE = Rate(0)  # billed by another unit instead


@dataclass(frozen=True, slots=True)
class Tariff:
    """Rates by meter (METERS). A meter of tokens or searches without a rate falls back to its parent's."""

    rates: Mapping[str, Rate]

    def find(self, meter: str) -> Rate | None:
        """The rate that bills this meter; None: neither it nor a parent of it has one."""
        while meter:
            rate = self.rates.get(meter)
            if rate is not None:
                return rate
            meter = _FALLBACK.get(meter, "")
        return None


def sides_missing(rates: Mapping[str, object]) -> tuple[str, ...]:
    """Of rates for tokens, the sides (SIDES) that have none; () where nothing is billed by the token."""
    if not any(meter in PARENT for meter in rates):
        return ()
    return tuple(side for side in SIDES if side not in rates)


@dataclass(frozen=True, slots=True)
class Hours:
    """A part of each UTC day with its own tariff (DeepSeek: half price off-peak). It may span midnight."""

    from_s: int  # seconds since 00:00 UTC
    to_s: int  # exclusive
    tariff: Tariff

    def contain(self, at_s: int) -> bool:
        second = at_s % DAY_S
        if self.from_s < self.to_s:
            return self.from_s <= second < self.to_s
        return second >= self.from_s or second < self.to_s


class Part(NamedTuple):
    """One line of a bill, in millionths of a nano-USD. `rate is None`: the price does not know the meter."""

    meter: str
    units: int
    rate: int | None
    nano_e6: int


class Ceiling(NamedTuple):
    """The dearest rates that a request could meet: per million tokens, per request, per tool call."""

    input_rate: int
    output_rate: int
    request_nano_usd: int
    tool_call_nano_usd: int = 0
    image_call_nano_usd: int = 0  # of a tool that makes images: many times what others cost

    def fees_nano_usd(self, tool_calls: int, *, image_tool: bool) -> int:
        """The request's, and that of so many tool calls. `image_tool`: some may make images."""
        dearest = max(self.tool_call_nano_usd, self.image_call_nano_usd) if image_tool else self.tool_call_nano_usd
        return self.request_nano_usd + tool_calls * dearest

    def cost_nano_usd(self, input_tokens: int, output_tokens: int, tool_calls: int = 0) -> int:
        """An upper bound, rounded up."""
        tokens_e6 = input_tokens * self.input_rate + output_tokens * self.output_rate
        return _ceil_e6(tokens_e6) + self.fees_nano_usd(tool_calls, image_tool=True)


@dataclass(frozen=True, slots=True)
class Price:
    """The terms for one model of one provider from one moment on."""

    id: int
    provider: str
    model: str
    source: str  # "admin", "catalogue", "sandbox"
    effective_from_s: int
    tariff: Tariff  # at any time of day that `hours` does not name; where hours differ, the dearest
    tiers: Mapping[str, Tariff] = field(default_factory=dict)  # service tier -> full tariff
    context_tokens: int | None = None
    output_tokens_max: int | None = None
    hours: tuple[Hours, ...] = ()
    unmetered: tuple[str, ...] = ()  # what the provider bills too and we cannot count yet: "audio_hours", ...
    # Each request asks for one of a few.
    _ceilings: dict[tuple[int, str, CacheWrites, bool, bool], Ceiling] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _steps: list[int] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        tariffs = (self.tariff, *self.tiers.values(), *(hours.tariff for hours in self.hours))
        steps = {above for tariff in tariffs for rate in tariff.rates.values() for above, _ in rate.steps}
        self._steps.extend(sorted(steps))

    def cost_nano_usd(self, usage: Usage, service_tier: str = "", at_s: int | None = None) -> int:
        """What this usage costs, rounded once, up. `service_tier` is the tier that the answer says was
        served; one that this price does not list is billed as standard (see `knows_tier`). `at_s` is the
        call's start: it matters only where prices depend on the hour, and without it the dearest hour counts.
        A meter without any rate adds nothing: `parts` shows it.
        """
        return _ceil_e6(sum([units * (rate or 0) for _, units, rate in self._metered(usage, service_tier, at_s)]))

    def parts(self, usage: Usage, service_tier: str = "", at_s: int | None = None) -> list[Part]:
        """The cost line by line; the lines' `nano_e6` add up to the cost before it is rounded."""
        metered = self._metered(usage, service_tier, at_s)
        return [Part(meter, units, rate, units * (rate or 0)) for meter, units, rate in metered]

    def _metered(self, usage: Usage, service_tier: str, at_s: int | None) -> list[tuple[str, int, int | None]]:
        """What is billed: meter, units, and the rate if there is one."""
        tier, tenths = self._placed(service_tier)
        tariff = self._tariff(tier, at_s)
        if usage.cache_read_audio_tokens and "cache_audio_read" not in tariff.rates:
            usage = usage._replace(cache_read_audio_tokens=0)  # nobody says that it costs less than what is fresh
        metered = _input_units(usage)
        by_second = usage.audio_seconds and "audio_seconds" in tariff.rates and "input_audio" not in tariff.rates
        input_tokens = usage.input_tokens if len(metered) == 1 else sum([units for _, units in metered])
        metered += _output_units(usage)
        if "request" in tariff.rates:
            metered.append(("request", 1))
        if any(usage[-len(_COUNTED) :]):
            metered += [(meter, getattr(usage, name)) for meter, name in _COUNTED]
        instead = {"input_audio"} if by_second else set()
        if usage.image_tool_output_tokens and IMAGE_TOOL_OUTPUT in tariff.rates:
            instead.add(IMAGE_TOOL)
        lines = []
        for meter, units in metered:
            if units:
                rate = _FREE if meter in instead else tariff.find(meter)
                cost = None if rate is None else rate.at(input_tokens)
                if cost is not None and tenths != 10 and meter in PARENT:
                    cost = _tenths(cost, tenths)
                lines.append((meter, units, cost))
        return lines

    def bills_text(self) -> bool:
        """Whether it says what generated text costs, if only nothing: some are for audio, pages or searches alone."""
        return not self.tariff.rates.keys().isdisjoint(_OF_TEXT)

    def knows_tier(self, service_tier: str) -> bool:
        """False: a premium tier may have been asked for or served that this price has no rates for."""
        tier, _ = self._placed(service_tier)
        return tier in _CHEAP_TIERS or tier in self.tiers

    def _placed(self, service_tier: str) -> tuple[str, int]:
        """The tier without the place that it was bound to, and what that makes of its rates, in tenths."""
        if not service_tier.endswith(US) or service_tier in self.tiers:
            return service_tier, 10
        tier, _, place = service_tier.rpartition(" ")
        return (tier, _US_TENTHS) if place == US else (service_tier, 10)

    def ceiling(
        self,
        input_tokens: int,
        service_tier: str = "",
        cache_writes: CacheWrites = "",
        *,
        media: bool = False,
        media_output: bool = False,
    ) -> Ceiling:
        """The dearest rates that a request of at most `input_tokens` could trigger.

        `service_tier`, as asked: a named premium counts, and so does standard, since providers downgrade
        (OpenAI and Gemini priority processing beyond their ramp limits) and flex may fall back. A premium
        that this price does not know counts as the dearest that it does know. "auto" and absent count as
        standard; at OpenAI they mean what the project's settings say: where these say priority, the caller
        passes "priority" instead (developers.openai.com/api/docs/guides/priority-processing).

        `cache_writes`: "5m" or "1h" as the request asks (Anthropic bills writes only then, at 1.25 and 2
        times the input: platform.claude.com/docs/en/build-with-claude/prompt-caching), "implicit" where the
        provider caches unasked and bills what it writes (OpenAI from GPT-5.6 on, 1.25 times), else "".

        `media`: the request carries or asks for audio, images or video. `media_output`: it may be answered with them.
        """
        # Clients name tiers: those that this price does not know are all alike.
        tier, tenths = self._placed(service_tier)
        tier = tier if self.knows_tier(tier) else _UNKNOWN_TIER
        asked = (self._step_below(input_tokens), tier, cache_writes, media, media or media_output)
        found = self._ceilings.get(asked)
        if found is None:
            found = self._ceilings[asked] = _ceiling(self, *asked)
        if tenths != 10:
            rates = _tenths(found.input_rate, tenths), _tenths(found.output_rate, tenths)
            return found._replace(input_rate=rates[0], output_rate=rates[1])
        return found

    def units_ceiling(self, units: Iterable[tuple[str, int]], service_tier: str = "") -> int:
        """The most that so many units by meter (UNIT_METERS, TOOL_METERS) can cost, in nano-USD, rounded up."""
        tier = service_tier if self.knows_tier(service_tier) else _UNKNOWN_TIER
        tariffs = self.tariffs_possible(tier)
        e6 = 0
        for meter, count in units:
            rates = [tariff.rates[meter].dearest(COUNT_MAX) for tariff in tariffs if meter in tariff.rates]
            e6 += count * max(rates, default=0)
        return _ceil_e6(e6)

    def tariffs_possible(self, service_tier: str) -> list[Tariff]:
        return [self.tariff, *(hours.tariff for hours in self.hours), *self.tiers_possible(service_tier)]

    def _step_below(self, input_tokens: int) -> int:
        """The smallest input that meets the same rates: between two steps, all inputs cost alike per token."""
        below = 0
        for above in self._steps:
            if above < input_tokens:
                below = above + 1
        return below

    def _tariff(self, service_tier: str, at_s: int | None) -> Tariff:
        tier = self.tiers.get(service_tier)
        if tier is not None:
            return tier
        if at_s is not None:
            for hours in self.hours:
                if hours.contain(at_s):
                    return hours.tariff
        return self.tariff

    def tiers_possible(self, service_tier: str) -> Iterable[Tariff]:
        """What a request for this tier may be served in, besides the base tariff."""
        if service_tier in _CHEAP_TIERS or service_tier in self.tiers:
            return [tariff for name, tariff in self.tiers.items() if name == service_tier or name.startswith(VIA)]
        return self.tiers.values()


def _ceiling(
    price: Price, input_tokens: int, service_tier: str, cache_writes: CacheWrites, media: bool, media_output: bool
) -> Ceiling:
    meters_in = ["input", "cache_read", *_CACHE_WRITE_METERS[cache_writes], *(_MEDIA_INPUT if media else ())]
    meters_out = ["output", "reasoning", *(_MEDIA_OUTPUT if media_output else ())]
    tariffs = price.tariffs_possible(service_tier)

    def dearest(meters: Sequence[str]) -> int:
        rates = [tariff.find(meter) for tariff in tariffs for meter in meters]
        return max((rate.dearest(input_tokens) for rate in rates if rate is not None), default=0)

    return Ceiling(
        input_rate=dearest(meters_in),
        output_rate=dearest(meters_out),
        request_nano_usd=_ceil_e6(dearest(["request"])),
        tool_call_nano_usd=_ceil_e6(dearest([meter for meter in TOOL_METERS if meter != IMAGE_TOOL])),
        image_call_nano_usd=_ceil_e6(dearest([IMAGE_TOOL])),
    )


_CACHE_WRITE_METERS: Mapping[CacheWrites, tuple[str, ...]] = {
    "": (),
    "5m": ("cache_write",),
    "1h": ("cache_write", "cache_write_1h"),
    "implicit": ("cache_write",),
}


def pick(prices: Sequence[Price], at_s: int) -> Price | None:
    """The price in force at that moment: the newest that had begun. None: none had."""
    chosen: Price | None = None
    for price in prices:
        if price.effective_from_s <= at_s and (chosen is None or price.effective_from_s > chosen.effective_from_s):
            chosen = price
    return chosen


def _input_units(usage: Usage) -> list[tuple[str, int]]:
    """The input in disjoint classes that add up to it. Audio and images may have been read from the cache too, and
    providers seldom say how many: but for audio that is known to be from there, they count as fresh while they fit
    beside the cached ones. A part larger than the total (cached_tokens above prompt_tokens) counts as the total.
    """
    if not any(usage[1:_OUTPUT]):  # most calls have none
        return [("input", usage.input_tokens)]
    written = max(usage.cache_write_tokens, usage.cache_write_1h_tokens)
    left = max(
        usage.input_tokens,
        written,
        usage.cache_read_tokens,
        usage.input_audio_tokens,
        usage.input_image_tokens,
        usage.input_video_tokens,
    )
    left -= written
    read = min(usage.cache_read_tokens, left)
    left -= read
    known = min(usage.cache_read_audio_tokens, usage.input_audio_tokens, read)
    audio = min(usage.input_audio_tokens - known, left)
    left -= audio
    cached_audio = min(usage.input_audio_tokens - audio, read)
    read -= cached_audio
    image = min(usage.input_image_tokens, left)
    left -= image
    cached_image = min(usage.input_image_tokens - image, read)
    read -= cached_image
    video = min(usage.input_video_tokens, left)  # cached, it costs what text does
    left -= video
    return [
        ("input", left),
        ("cache_read", read),
        ("cache_write", written - usage.cache_write_1h_tokens),
        ("cache_write_1h", usage.cache_write_1h_tokens),
        ("input_audio", audio),
        ("cache_audio_read", cached_audio),
        ("input_image", image),
        ("cache_image_read", cached_image),
        ("input_video", video),
    ]


def _output_units(usage: Usage) -> list[tuple[str, int]]:
    """The output in disjoint classes that add up to it."""
    if not any(usage[_OUTPUT + 1 : _CALLS]):
        return [("output", usage.output_tokens)]
    left = max(usage.output_tokens, usage.reasoning_tokens, usage.output_audio_tokens, usage.output_image_tokens)
    audio = min(usage.output_audio_tokens, left)
    left -= audio
    image = min(usage.output_image_tokens, left)
    left -= image
    reasoning = min(usage.reasoning_tokens, left)
    left -= reasoning
    return [("output", left), ("reasoning", reasoning), ("output_audio", audio), ("output_image", image)]


def _tenths(rate: int, tenths: int) -> int:
    return -(-rate * tenths // 10)


def _ceil_e6(nano_e6: int) -> int:
    return -(-nano_e6 // PRICE_UNITS)
