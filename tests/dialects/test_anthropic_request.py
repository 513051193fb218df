"""What is read from requests in the Anthropic dialect. The bodies are made up."""

import json
from typing import Any

import pytest

from llmctl.dialects.anthropic.dialect import ANTHROPIC
from llmctl.dialects.request import Request
from llmctl.domain.call import Ask
from llmctl.domain.demand import UNKNOWN_TURNS
from llmctl.domain.errors import Refused

HELLO = [{"role": "user", "content": "Hello"}]


def read(endpoint: str = "messages", **body: Any) -> Request:
    return ANTHROPIC.read_request(endpoint, json.dumps({"model": "m", "messages": HELLO, **body}).encode())


def ask(**body: Any) -> Ask:
    return read(**body).ask


def refused(**body: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        read(**body)
    return caught.value


def test_a_plain_message_is_bounded_by_its_bytes() -> None:
    body = b'{"model":"c","max_tokens":9,"messages":[{"role":"user","content":"Hello"}],"metadata":{"user_id":"ann"}}'
    request = ANTHROPIC.read_request("messages", body)
    assert request.ask == Ask("messages", "c", False, len(body), output_tokens_max=9, end_user="ann")
    assert request.upstream_body(inject_usage=True) is body
    assert request.upstream_body(output_tokens_max=5) == body.replace(b":9,", b":5,")


def test_counting_tokens_generates_nothing() -> None:
    assert not read("messages.count_tokens").ask.generates


def test_a_thinking_budget_is_a_floor_below_the_maximum() -> None:
    assert ask(max_tokens=5000, thinking={"type": "enabled", "budget_tokens": 2000}).output_tokens_floor == 2001
    assert ask(max_tokens=1000, thinking={"type": "enabled", "budget_tokens": 2000}).output_tokens_floor == 1000
    assert ask(max_tokens=1000, thinking={"type": "adaptive"}).output_tokens_floor == 0
    assert refused(thinking={"budget_tokens": "2000"}).param == "thinking.budget_tokens"
    assert refused(thinking="much").param == "thinking"


DOCUMENT = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "xx"}}


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        ({"type": "text", "text": "x", "citations": []}, ""),
        ({"type": "thinking", "thinking": "x", "signature": "y"}, ""),
        ({"type": "tool_use", "id": "1", "name": "f", "input": {"content": {"type": "image"}}}, ""),
        ({"type": "tool_result", "tool_use_id": "1", "content": "x"}, ""),
        ({"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "x"}]}, ""),
        ({"type": "tool_result", "tool_use_id": "1", "content": [{"type": "image", "source": {}}]}, "images"),
        ({"type": "image", "source": {"type": "base64"}}, "images"),
        (DOCUMENT, "files"),
        ({"type": "document", "source": {"type": "url", "url": "https://x"}}, "URLs"),
        ({"type": "document", "source": {"type": "file", "file_id": "file_1"}}, "a stored file"),
        ({"type": "document", "source": {"type": "text", "data": "x"}}, ""),
        ({"type": "document", "source": {"type": "content", "content": [{"type": "image"}]}}, "images"),
        ({"type": "web_fetch_tool_result", "content": {"type": "web_fetch_result", "content": DOCUMENT}}, "files"),
        ({"type": "web_search_tool_result", "content": [{"type": "web_search_result"}]}, ""),
        ({"type": "container_upload", "file_id": "file_1"}, "a container"),
        ({"type": "surprise"}, "content of an unknown shape"),
        ("bare", "content of an unknown shape"),
    ],
)
def test_blocks_are_text_or_not(block: object, reason: str) -> None:
    assert ask(messages=[{"role": "user", "content": [block]}]).unbounded_input == reason
    assert ask(system=[block]).unbounded_input == reason


def test_what_is_stored_makes_the_input_unbounded() -> None:
    assert ask(container="container_1").unbounded_input == "a container"
    thread = {"type": "continue", "previous_message_id": "msg_1"}
    assert ask(thread=thread).unbounded_input == "a stored conversation"
    assert ask(thread={"type": "create"}).unbounded_input == ""
    assert ask(messages=["bare"]).unbounded_input == "content of an unknown shape"


@pytest.mark.parametrize(
    ("tools", "turns"),
    [
        ([{"name": "f", "input_schema": {}}, {"type": "custom", "name": "g"}, {"type": None, "name": "h"}], 0),
        ([{"type": "bash_20250124"}, {"type": "text_editor_20250728"}, {"type": "computer_20251124"}], 0),
        ([{"type": "memory_20250818"}], 0),
        ([{"type": "web_search_20250305", "max_uses": 3}], 3),
        ([{"type": "web_search_20250305", "max_uses": 3}, {"type": "web_fetch_20250910", "max_uses": 2}], 5),
        ([{"type": "web_search_20250305"}], UNKNOWN_TURNS),
        ([{"type": "web_search_20250305", "max_uses": 3}, {"type": "code_execution_20250825"}], UNKNOWN_TURNS),
        ([{"type": "web_search_20250305", "max_uses": "3"}], UNKNOWN_TURNS),
        (["rubbish"], UNKNOWN_TURNS),
        ([], 0),
    ],
)
def test_tools_that_anthropic_runs_bill_the_input_again(tools: list[object], turns: int) -> None:
    assert ask(tools=tools).server_tool_turns == turns


def test_tools_that_messages_bring_along_are_turns_too() -> None:
    def added(**definition: object) -> int:
        tool = {"type": "tool_definition", "definition": definition}
        message = {"role": "system", "content": [{"type": "tool_addition", "tool": tool}]}
        return ask(messages=[{"role": "user", "content": "Hi"}, message]).server_tool_turns

    assert added(name="f", input_schema={}) == 0
    assert added(type="web_search_20250305", max_uses=3) == 3
    assert added(type="web_search_20250305") == UNKNOWN_TURNS


def test_an_advisor_is_another_model_than_was_judged() -> None:
    for kind in (b"advisor_20260301", rb"adv\u0069sor_20260301"):
        body = b'{"model":"m","messages":[],"tools":[{"type":"%b","name":"advisor","model":"dear"}]}' % kind
        with pytest.raises(Refused) as caught:
            ANTHROPIC.read_request("messages", body)
        assert (caught.value.code, caught.value.param) == ("not_supported", "tools")


def test_servers_and_compaction_are_turns_too() -> None:
    assert ask(mcp_servers=[{"url": "https://x"}]).server_tool_turns == UNKNOWN_TURNS
    assert ask(mcp_servers=[]).server_tool_turns == 0
    assert ask(context_management={"edits": [{"type": "compact_20260112"}]}).server_tool_turns == UNKNOWN_TURNS
    spelled = rb'{"model":"m","messages":[],"context_management":{"edits":[{"type":"comp\u0061ct_20260112"}]}}'
    assert ANTHROPIC.read_request("messages", spelled).ask.server_tool_turns == UNKNOWN_TURNS
    assert ask(context_management={"edits": [{"type": "clear_tool_uses_20250919"}]}).server_tool_turns == 0
    assert ask(compaction={"type": "summarize"}).server_tool_turns == 1


def test_cache_writes_and_tiers_that_cost_more() -> None:
    block = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    assert ask(system=[block]).cache_write_ttl == "1h"
    assert ask(cache_control={"type": "ephemeral"}).cache_write_ttl == "5m"
    assert ask(service_tier="standard_only").service_tier == "standard_only"
    assert ask(speed="fast").service_tier == "fast"


@pytest.mark.parametrize("fallbacks", [[{"model": "dear"}], "default", {}])
def test_models_to_fall_back_on_at_the_provider_are_refused(fallbacks: object) -> None:
    error = refused(fallbacks=fallbacks)
    assert (error.code, error.param) == ("not_supported", "fallbacks")
    assert ask(fallbacks=None)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"max_tokens": 1.0}, "max_tokens"),
        ({"Max_Tokens": 1}, "Max_Tokens"),
        ({"model": 7}, "model"),
        ({"stream": 1}, "stream"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {"user_id": 7}}, "metadata.user_id"),
    ],
)
def test_fields_that_decide_money_are_read_strictly(body: dict[str, Any], param: str) -> None:
    error = refused(**body)
    assert (error.code, error.param) == ("bad_request", param)


def test_the_text_for_an_offline_count() -> None:
    use = {"type": "tool_use", "id": "1", "name": "f", "input": {"a": 1}}
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": [{"type": "text", "text": "b"}, use]},
    ]
    text = ANTHROPIC.input_text(read(messages=messages, system="Be brief.", tools=[{"name": "f"}]))
    assert text.messages == (("system", "Be brief."), ("user", "a"), ("assistant", 'bf{"a":1}'))
    assert json.loads(text.tools) == [{"name": "f"}]


def test_where_it_has_to_be_served_is_part_of_the_tier() -> None:
    assert ask(inference_geo="us").service_tier == "us"
    assert ask(inference_geo="us", speed="fast").service_tier == "fast us"
    assert ask(inference_geo="global").service_tier == ""


def test_a_container_that_is_used_again_is_referred_to_and_a_new_one_with_skills_is_not() -> None:
    assert ask(container="container_1").refers_to == ("container_1",)
    assert ask(container={"id": "container_1", "skills": []}).refers_to == ("container_1",)
    assert ask(container={"skills": []}).refers_to == ask(container=None).refers_to == ()
