"""Prompts and answers: kept for nobody, unless a group's admin says so."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from llmctl.config import Config, load
from llmctl.config.content import ContentSettings
from llmctl.domain.errors import ConfigError, StoreUnavailable
from llmctl.proxy.contents import Contents
from llmctl.proxy.json_strings import Redact
from llmctl.proxy.own_patterns import OwnPatterns, compiled
from llmctl.proxy.relay import KeptAnswer
from llmctl.store import contents, ids, upkeep
from tests.support.daemon import Daemon
from tests.support.faulty import ANSWER, FAULTS, Faulty, Line, chunk, events, wait_until
from tests.support.wire import CHAT, MESSAGES, PROMPT, ask, post

DISK_BYTES = 8 << 20


async def in_pieces(line: Line) -> None:
    """A secret and an address, a few letters an event."""
    seen = await line.request()
    await line.start_stream()
    for piece in ("It is\n", "sk", "-", "proj-SECRET", "0123456789", " and bob", "@exam", "ple.com"):
        delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
        await line.send_event(delta if seen.anthropic else chunk(piece))
    for event in events(seen.anthropic)[-2:]:
        await line.send_event(event)
    await line.end_stream()


async def repeats(line: Line) -> None:
    """Our credential, in its answer and in its refusal."""
    seen = await line.request()
    said = {"echo": seen.headers["authorization"], "choices": [], "model": "m"}
    await line.send_whole(json.dumps(said).encode(), status="400 Bad" if b"wrong" in seen.body else "200 OK")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("contents")
    extra = '[content]\nbytes_max = 4096\npatterns = ["PROMPT-TEXT"]\n'
    faults = {**{name: FAULTS[name] for name in ("fine", "broken_gzip")}, "in_pieces": in_pieces, "repeats": repeats}
    with Faulty(faults) as faulty, Daemon(directory, faulty.providers(directory), extra=extra) as daemon:
        daemon.here("group", "add", "company", "-q")
        daemon.here("group", "add", "support", "--parent", "company", "-q")
        yield daemon


def shown(gateway: Daemon, call: str) -> dict:
    kept = contents.directory_of(gateway.database)

    def found() -> bool:
        return any(call in path.read_text() for path in kept.glob("*.jsonl"))

    assert wait_until(found, 10)
    return json.loads(gateway.here("content", "show", call, "-o", "json"))


def test_nothing_is_kept_unless_a_group_wants_it(gateway: Daemon) -> None:
    key = gateway.add_user("nobody")
    assert post(gateway.url, CHAT, ask("fine/m"), key).status == 200
    time.sleep(1.2)
    assert not contents.directory_of(gateway.database).exists()
    assert "Nothing is kept." in gateway.here("content", "list")
    for file in gateway.directory.glob("llmctl.db*"):
        if file.is_file():
            assert PROMPT.encode() not in file.read_bytes()


@pytest.mark.parametrize("stream", [False, True])
def test_of_a_group_that_wants_it_and_those_below_both_sides_are_kept_redacted(gateway: Daemon, stream: bool) -> None:
    gateway.here("content", "keep", "company")
    key = gateway.add_user(f"alice-{stream}".lower(), "support")
    body = ask("fine/m", stream=stream, user="alice@example.com")
    call = post(gateway.url, CHAT, body, key).headers["x-llmctl-call-id"]
    record = shown(gateway, call)
    request = json.loads(record["request"])
    assert request["messages"][0]["content"] == "[redacted] of a user"
    assert request["user"] == "[email]"
    assert (ANSWER.split()[0] in record["answer"], record["cut"]) == (True, False)
    assert (record["group"], record["model"], record["status"]) == ("support", "fine/m", 200)
    (path,) = contents.directory_of(gateway.database).glob("*.jsonl")
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert ANSWER.split()[0] in gateway.here("content", "show", call)


@pytest.mark.parametrize("path", [CHAT, MESSAGES])
def test_of_a_stream_its_text_is_kept_redacted_however_many_pieces_it_came_in(gateway: Daemon, path: str) -> None:
    gateway.here("content", "keep", "company")
    key = gateway.add_user(f"stream-{path.rsplit('/')[-1]}", "support")
    body = ask("in_pieces/m", path=path, stream=True)
    reply = post(gateway.url, path, body, key)
    assert b"SECRET" in reply.body
    record = shown(gateway, reply.headers["x-llmctl-call-id"])
    assert record["answer"] == "It is\n[key] and [email]"


@pytest.mark.parametrize("padding", ["", "wrong"])
def test_our_credential_is_not_kept_should_a_provider_repeat_it(gateway: Daemon, padding: str) -> None:
    gateway.here("content", "keep", "company")
    key = gateway.add_user(f"echo{padding}", "support")
    call = post(gateway.url, CHAT, ask("repeats/m", padding=padding), key).headers["x-llmctl-call-id"]
    record = shown(gateway, call)
    assert json.loads(record["answer"])["echo"] == "Bearer ***"
    assert record["cut"] is False


def test_long_ones_are_cut_and_what_is_no_text_is_kept_as_base64(gateway: Daemon) -> None:
    gateway.here("content", "keep", "company")
    key = gateway.add_user("long", "support")
    call = post(gateway.url, CHAT, ask("fine/m", padding="ü" * 9_000), key).headers["x-llmctl-call-id"]
    record = shown(gateway, call)
    assert record["cut"] and len(record["request"].encode()) <= 4_096


def test_from_the_next_call_on_nothing_more_is_kept(gateway: Daemon) -> None:
    gateway.here("content", "keep", "company")
    key = gateway.add_user("bob", "support")
    gateway.here("content", "drop", "company")
    call = post(gateway.url, CHAT, ask("fine/m"), key).headers["x-llmctl-call-id"]
    time.sleep(1.2)
    done = gateway.llmctl("content", "show", call, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "Unchanged" in gateway.llmctl("content", "drop", "company").stdout
    actions = [row["action"] for row in gateway.json("audit", "-n", "100")]
    assert "content keep" in actions and "content drop" in actions


async def test_where_the_disk_is_nearly_full_no_more_is_kept_and_room_for_the_ledger_stays(
    disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = Contents(Config(disk / "config.toml", disk / "llmctl.db"))
    other = disk / "other"
    other.write_bytes(bytes(DISK_BYTES // 2))
    for _ in range(12):
        keeper._waiting.append(({"call": "c_1"}, b"x" * (DISK_BYTES // 16), KeptAnswer(100)))
        await keeper.flush()
    free, wanted = upkeep.room(disk / "llmctl.db")
    assert 4 * wanted <= free < 6 * wanted
    other.unlink()
    keeper._waiting.append(({"call": "c_2"}, b"x", KeptAnswer(100)))
    await keeper.flush()
    told = [record.getMessage() for record in caplog.records]
    assert [text.partition(":")[0] for text in told] == [
        "no contents are kept",
        "contents are kept again; those of 9 calls are lost",
    ]


def test_one_that_does_not_fit_leaves_nothing_behind(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "ROOM_TIMES", -1_000)
    contents.add(disk, [{"call": "c_1"}], 0)
    (path,) = disk.glob("*.jsonl")
    path.write_bytes(path.read_bytes() + b'{"call": "c_hal')
    with pytest.raises(StoreUnavailable, match="No space left"):
        contents.add(disk, [{"call": "x" * 2 * DISK_BYTES}], 0)
    contents.add(disk, [{"call": "c_2"}], 0)
    assert path.read_text().splitlines() == ['{"call":"c_1"}', '{"call": "c_hal', '{"call":"c_2"}']


def test_days_that_are_over_are_removed(tmp_path: Path) -> None:
    directory = tmp_path / "x.contents"
    day = 86_400
    for number in range(5):
        contents.add(directory, [{"call": f"c{number}"}], 1_800_000_000 + number * day)
    assert contents.prune(directory, 2, 1_800_000_000 + 4 * day) == 2
    assert len(contents.days(directory)) == 3
    assert contents.prune(tmp_path / "nothing", 2, 0) == 0


def test_one_that_cannot_be_removed_keeps_no_other(tmp_path: Path) -> None:
    (tmp_path / "2020-01-01.jsonl").mkdir()
    (tmp_path / "2020-01-02.jsonl").touch()
    with pytest.raises(StoreUnavailable, match="2020-01-01"):
        contents.prune(tmp_path, 2, 1_800_000_000)
    assert [path.name for path in tmp_path.iterdir()] == ["2020-01-01.jsonl"]


async def test_where_old_ones_cannot_be_removed_new_ones_are_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = Config(tmp_path / "config.toml", tmp_path / "llmctl.db")
    directory = contents.directory_of(config.database)
    (directory / "2020-01-01.jsonl").mkdir(parents=True)
    kept = Contents(config)
    kept._waiting.append(({"call": "c_1"}, b"{}", KeptAnswer(100)))
    await kept.flush()
    (path,) = (path for path in directory.iterdir() if path.is_file())
    assert json.loads(path.read_text())["call"] == "c_1"
    assert "2020-01-01" in caplog.text


async def test_one_that_cannot_be_made_costs_itself_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def text(data: bytes, _: Redact) -> str:
        if b"bad" in data:
            raise ValueError("a bug")
        return data.decode()

    monkeypatch.setattr("llmctl.proxy.contents._text", text)
    keeper = Contents(Config(tmp_path / "config.toml", tmp_path / "llmctl.db"))
    keeper._waiting = [({"call": name}, name.encode(), KeptAnswer(100)) for name in ("c_1", "c_bad", "c_2")]
    await keeper.flush()
    (path,) = contents.directory_of(tmp_path / "llmctl.db").glob("*.jsonl")
    assert [json.loads(line)["call"] for line in path.read_text().splitlines()] == ["c_1", "c_2"]


@pytest.mark.parametrize(("pattern", "text"), [(r"\d+-\d+", "1" * 600_000 + "-"), ("(a|aa)+$", "a" * 100 + "b")])
async def test_a_pattern_that_takes_for_ever_costs_that_call_alone_and_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, pattern: str, text: str
) -> None:
    settings = ContentSettings(patterns=(pattern,))
    keeper = Contents(Config(tmp_path / "config.toml", tmp_path / "llmctl.db", content=settings))
    keeper._waiting = [({"call": "c_slow"}, text.encode(), KeptAnswer(100)), ({"call": "c_2"}, b"", KeptAnswer(100))]
    writing = asyncio.create_task(keeper.flush())
    longest_s = 0.0
    while not writing.done():
        began_s = time.monotonic()
        await asyncio.sleep(0.01)
        longest_s = max(longest_s, time.monotonic() - began_s)
    assert longest_s < 1
    (path,) = contents.directory_of(tmp_path / "llmctl.db").glob("*.jsonl")
    assert [json.loads(line)["call"] for line in path.read_text().splitlines()] == ["c_2"]
    assert "c_slow" in caplog.text and text not in caplog.text


def test_own_patterns_are_taken_out_and_one_that_is_none_is_told(tmp_path: Path) -> None:
    own = OwnPatterns(compiled([r"patient \d+"]))
    assert own.redacted("patient 17, a@b.example") == "[redacted], a@b.example"
    (tmp_path / "config.toml").write_text('[content]\npatterns = ["("]\n')
    with pytest.raises(ConfigError, match="no regular expression"):
        load(tmp_path / "config.toml")


def test_a_half_written_line_costs_that_line_alone(tmp_path: Path) -> None:
    now_s = int(time.time())
    call = ids.shown(ids.at_or_after(now_s))
    contents.add(tmp_path, [{"call": call, "request": "\ud800"}], now_s)
    (path,) = tmp_path.glob("*.jsonl")
    for half in (b'{"call": "c_hal', '{"call": "ü'.encode()[:-1]):
        path.write_bytes(half + b"\n" + path.read_bytes())
    assert contents.find(tmp_path, call)["call"] == call


def test_what_cannot_be_read_is_said_and_no_bug(tmp_path: Path) -> None:
    call_id = ids.at_or_after(int(time.time()))
    (tmp_path / f"{datetime.now(UTC):%Y-%m-%d}.jsonl").mkdir()
    with pytest.raises(StoreUnavailable, match="cannot be read"):
        contents.find(tmp_path, ids.shown(call_id))
