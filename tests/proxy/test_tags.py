"""`x-llmctl-tags`: what a caller calls its calls, for reports."""

from __future__ import annotations

import pytest

from tests.support.daemon import Daemon

from .recorder import Recorder

CHAT = "/v1/chat/completions"
HELLO = {"model": "echo-1", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 10}


def test_tags_are_booked_and_stay_here(gateway: Daemon, recorder: Recorder) -> None:
    key = gateway.add_user("tagger")
    answer = gateway.send(CHAT, HELLO, key=key, headers={"X-LLMCTL-Tags": " nightly,team=search , nightly,"})
    assert answer.status == 200
    assert not [name for name in recorder.last.headers if name.lower().startswith("x-llmctl")]
    assert gateway.send(CHAT, HELLO, key=key).status == 200
    gateway.call(answer.call_id)
    calls = gateway.json("calls", "--user", "tagger")
    assert [call["tags"] for call in calls] == [[], ["nightly", "team=search"]]
    rows = gateway.json("usage", "--user", "tagger", "--by", "tag")
    assert {row["tag"]: row["calls"] for row in rows} == {"nightly": 1, "team=search": 1, None: 1}


@pytest.mark.parametrize("tags", ["white space", "a" * 65, ",".join(map(str, range(11))), "über", "=1,'"])
def test_tags_that_cannot_be_kept_are_refused_not_dropped(gateway: Daemon, key: str, tags: str) -> None:
    answer = gateway.send(CHAT, HELLO, key=key, headers={"x-llmctl-tags": tags})
    assert answer.status == 400
    assert "x-llmctl-tags is not usable" in answer.body.decode()
