"""What is read from requests in the OpenAI dialect. The bodies are made up."""

import json
from typing import Any

import pytest

from llmctl.dialects.content import AUDIO
from llmctl.dialects.openai.dialect import OPENAI
from llmctl.dialects.request import Request
from llmctl.domain.call import Ask
from llmctl.domain.demand import UNKNOWN_TURNS
from llmctl.domain.errors import Refused

CHAT = "chat.completions"
HELLO = [{"role": "user", "content": "Hello"}]


def read(endpoint: str, **body: Any) -> Request:
    return OPENAI.read_request(endpoint, json.dumps({"model": "m", **body}).encode())


def ask(endpoint: str, **body: Any) -> Ask:
    return read(endpoint, **body).ask


def refused(endpoint: str, **body: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        read(endpoint, **body)
    return caught.value


def test_a_plain_chat_is_bounded_by_its_bytes() -> None:
    body = b'{"model":"gpt-x","messages":[{"role":"user","content":"Hello"}],"max_tokens":9,"user":"ann"}'
    request = OPENAI.read_request(CHAT, body)
    assert request.ask == Ask(CHAT, "gpt-x", False, len(body), output_tokens_max=9, end_user="ann")
    assert request.upstream_body() is body


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict"])
def test_the_output_maximum_is_found_in_whichever_field(name: str) -> None:
    assert ask(CHAT, messages=HELLO, **{name: 7}).output_tokens_max == 7
    assert refused(CHAT, messages=HELLO, **{name: -1}).param == name
    assert refused(CHAT, messages=HELLO, **{name: "7"}).param == name


def test_of_two_output_maxima_the_larger_counts_and_both_are_lowered() -> None:
    request = read(CHAT, messages=HELLO, max_tokens=10, max_completion_tokens=500)
    assert request.ask.output_tokens_max == 500
    lowered = json.loads(request.upstream_body(output_tokens_max=5))
    assert (lowered["max_tokens"], lowered["max_completion_tokens"]) == (5, 5)
    lowered = json.loads(request.upstream_body(output_tokens_max=100))
    assert (lowered["max_tokens"], lowered["max_completion_tokens"]) == (10, 100)


def test_where_no_maximum_is_set_it_goes_into_the_field_that_the_route_takes() -> None:
    request = read(CHAT, messages=HELLO, max_tokens=None)
    assert request.ask.output_tokens_max is None
    assert json.loads(request.upstream_body(output_tokens_max=5, output_field="max_tokens"))["max_tokens"] == 5
    body = json.loads(request.upstream_body(output_tokens_max=5, output_field="max_completion_tokens"))
    assert (body["max_tokens"], body["max_completion_tokens"]) == (None, 5)
    nested = json.loads(request.upstream_body(output_tokens_max=5, output_field="generationConfig.maxOutputTokens"))
    assert nested["generationConfig"] == {"maxOutputTokens": 5}


def test_the_upstream_model_name_replaces_the_requested_one() -> None:
    body = b'{ "model" : "alias",\n "messages" : [] }'
    request = OPENAI.read_request(CHAT, body)
    assert request.upstream_body(model="alias") is body
    assert request.upstream_body(model='a"b') == b'{ "model" : "a\\"b",\n "messages" : [] }'


def test_the_usage_option_is_injected_only_where_it_exists() -> None:
    stream = read(CHAT, messages=HELLO, stream=True)
    assert not stream.ask.wants_usage
    assert json.loads(stream.upstream_body(inject_usage=True))["stream_options"] == {"include_usage": True}
    told = read(CHAT, stream=True, stream_options={"include_usage": False, "x": 1})
    assert not told.ask.wants_usage
    assert json.loads(told.upstream_body(inject_usage=True))["stream_options"] == {"include_usage": True, "x": 1}
    assert ask(CHAT, stream=True, stream_options={"include_usage": True}).wants_usage
    response = read("responses", input="x", stream=True)
    assert response.ask.wants_usage  # it always comes
    assert response.upstream_body(inject_usage=True) is response.body
    assert refused(CHAT, stream=True, stream_options={"include_usage": "yes"}).param == "stream_options.include_usage"
    assert refused(CHAT, stream="true").param == "stream"


@pytest.mark.parametrize("model", [None, "", 5, ["m"], "x" * 201, "a\nb", "a\x00", "\u202e", {"a": 1}])
def test_the_model_must_be_a_short_printable_string(model: object) -> None:
    assert refused(CHAT, model=model, messages=HELLO).param == "model"


def test_choices_multiply_the_output() -> None:
    assert ask(CHAT, messages=HELLO, n=3).output_multiplier == 3
    assert ask("completions", prompt="x", n=2, best_of=5).output_multiplier == 5
    assert ask("completions", prompt="x", n=4, best_of=None).output_multiplier == 4
    assert refused(CHAT, n=1.5).param == "n"
    assert refused(CHAT, n=10**6).param == "n"


@pytest.mark.parametrize(
    ("prompt", "count"),
    [
        ("one", 1),
        (["one"], 1),
        (["one", 'two"]', "th\\ree"], 3),
        ([1, 2, 3], 1),
        ([[1, 2], [3]], 2),
        ([], 1),
        (None, 1),
        ([1, "mixed"], 2),
    ],
)
def test_prompts_in_a_list_multiply_the_output_but_a_list_of_tokens_is_one(prompt: object, count: int) -> None:
    assert ask("completions", prompt=prompt).output_multiplier == count
    assert ask("completions", prompt=prompt, n=3).output_multiplier == 3 * count


def test_prompts_of_another_shape_are_refused() -> None:
    for prompt in ({"a": 1}, [None], [{"a": 1}], 5, ["x"] * 10_001):
        assert refused("completions", prompt=prompt).param == "prompt"


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ({"type": "text", "text": "x"}, ""),
        ({"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}, ""),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,xx"}}, "images"),
        ({"type": "input_audio", "input_audio": {"data": "xx"}}, "audio"),
        ({"type": "video_url", "video_url": {"url": "https://x"}}, "video"),
        ({"type": "file", "file": {"file_id": "file_1"}}, "files"),
        ({"type": "document_url", "document_url": "https://x"}, "URLs"),
        ({"type": "hologram"}, "content of an unknown shape"),
        ({"type": "text", "text": "x", "Type": "image_url"}, "content of an unknown shape"),
        ({"text": "x"}, "content of an unknown shape"),
        ("bare", "content of an unknown shape"),
    ],
)
def test_what_is_not_text_makes_the_input_unbounded(part: object, reason: str) -> None:
    messages = [{"role": "system", "content": "x"}, {"role": "user", "content": [{"type": "text", "text": "y"}, part]}]
    assert ask(CHAT, messages=messages).unbounded_input == reason


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"role": "assistant", "content": None, "tool_calls": [{"id": "1"}], "refusal": None}, ""),
        ({"role": "assistant", "content": "x", "weight": 1, "prefix": True}, ""),
        ({"role": "assistant", "audio": {"id": "audio_1"}}, "a stored audio answer"),
        ({"role": "assistant", "content": "x", "refusal": None, "annotations": None, "audio": None}, ""),
        ({"role": "assistant", "content": "x", "images": None, "unknown": None}, ""),
        ({"role": "assistant", "content": "x", "images": []}, ""),
        ({"role": "assistant", "content": "x", "images": [{"type": "image_url"}]}, "images"),
        ({"role": "user", "content": "x", "Content": [{"type": "image_url"}]}, "content of an unknown shape"),
        ({"role": "user", "content": {"title": "x"}}, "content of an unknown shape"),
        ({"role": "user", "content": "x", "attachments": ["a"]}, "content of an unknown shape"),
    ],
)
def test_a_message_may_hold_only_what_is_known_to_be_text(message: dict[str, Any], reason: str) -> None:
    assert ask(CHAT, messages=[message]).unbounded_input == reason


def test_names_that_appear_twice_inside_a_message_are_refused() -> None:
    for body in (
        '{"model":"m","messages":[{"role":"user","content":"x","content":[{"type":"image_url"}]}]}',
        '{"model":"m","messages":[{"role":"user","content":[{"type":"text","type":"image_url","text":"x"}]}]}',
        '{"model":"m","messages":[],"tools":[{"type":"function","type":"web_search"}]}',
    ):
        with pytest.raises(Refused, match="twice"):
            OPENAI.read_request(CHAT, body.encode())


def test_references_make_the_input_unbounded() -> None:
    assert ask("responses", input="x", previous_response_id="resp_1").unbounded_input == "a stored response"
    assert ask("responses", prompt={"id": "pmpt_1"}).unbounded_input == "a stored prompt"
    assert ask("responses", input="x", previous_response_id=None).unbounded_input == ""
    extra = {"google": {"cached_content": "cachedContents/1"}}
    assert ask(CHAT, messages=HELLO, extra_body=extra).unbounded_input == "a cached content"
    assert ask(CHAT, messages=HELLO, modalities=["text", "audio"]).unbounded_input == "audio"


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        ({"role": "user", "content": "x"}, ""),
        ({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]}, ""),
        ({"role": "user", "content": [{"type": "input_image", "image_url": "https://x"}]}, "images"),
        ({"role": "user", "content": [{"type": "input_file", "file_id": "file_1"}]}, "files"),
        ({"type": "function_call", "name": "f", "arguments": "{}", "call_id": "1"}, ""),
        ({"type": "function_call_output", "call_id": "1", "output": "x"}, ""),
        ({"type": "function_call_output", "call_id": "1", "output": [{"type": "input_image"}]}, "images"),
        ({"type": "computer_call_output", "output": {"type": "computer_screenshot"}}, "images"),
        ({"type": "reasoning", "id": "rs_1", "encrypted_content": "gAAA==", "summary": []}, ""),
        ({"type": "reasoning", "id": "rs_1", "summary": []}, "a stored item"),
        ({"type": "reasoning", "id": "rs_1", "content": [], "encrypted_content": None}, "a stored item"),
        ({"type": "reasoning", "id": "rs_1", "content": [{"type": "reasoning_text"}], "encrypted_content": None}, ""),
        ({"type": "reasoning", "id": "rs_1", "content": [{"type": "input_file"}]}, "files"),
        ({"type": None, "role": "user", "content": "x"}, ""),
        ({"type": None, "id": "msg_1"}, "a stored item"),
        ({"type": "item_reference", "id": "msg_1"}, "a stored item"),
        ({"id": "msg_1"}, "a stored item"),
        ({"type": "message", "id": "msg_1", "role": "assistant"}, "a stored item"),
        ({"type": "surprise"}, "content of an unknown shape"),
    ],
)
def test_items_of_a_response_are_text_or_not(item: dict[str, Any], reason: str) -> None:
    assert ask("responses", input=[item]).unbounded_input == reason


@pytest.mark.parametrize(
    ("tool", "turns"),
    [
        ({"type": "function", "name": "f", "parameters": {}}, 0),
        ({"type": "custom", "name": "f"}, 0),
        ({"type": "local_shell"}, 0),
        ({"type": "shell", "environment": {"type": "local"}}, 0),
        ({"type": "shell", "environment": {"type": "container_auto"}}, UNKNOWN_TURNS),
        ({"type": "shell"}, UNKNOWN_TURNS),
        ({"type": "tool_search", "execution": "client"}, 0),
        ({"type": "tool_search"}, UNKNOWN_TURNS),
        ({"type": "web_search"}, UNKNOWN_TURNS),
        ({"type": "mcp", "server_url": "https://x"}, UNKNOWN_TURNS),
        ({"type": "news_of_tomorrow"}, UNKNOWN_TURNS),
        ({}, UNKNOWN_TURNS),
    ],
)
def test_tools_that_the_provider_runs_bill_the_input_again(tool: dict[str, Any], turns: int) -> None:
    assert ask("responses", input="x", tools=[tool]).server_tool_turns == turns
    bounded = ask("responses", input="x", tools=[tool], max_tool_calls=3).server_tool_turns
    assert bounded == (3 if turns else 0)


def test_other_ways_to_have_the_provider_work_on_the_input() -> None:
    assert ask(CHAT, messages=HELLO, web_search_options={}).server_tool_turns == 1
    assert ask(CHAT, messages=HELLO, model="vendor/m:online").server_tool_turns == 1
    assert ask(CHAT, messages=HELLO, model="perplexity/sonar-deep-research").server_tool_turns == UNKNOWN_TURNS
    assert ask(CHAT, messages=HELLO, plugins=[{"id": "web"}]).server_tool_turns == 1
    assert ask(CHAT, messages=HELLO, tools=[{"type": "openrouter:web_search"}]).server_tool_turns == UNKNOWN_TURNS
    compaction = [{"type": "compaction", "compact_threshold": 1000}]
    assert ask("responses", input="x", context_management=compaction).server_tool_turns == UNKNOWN_TURNS
    brought = [{"type": "additional_tools", "role": "developer", "tools": [{"type": "web_search"}]}]
    assert ask("responses", input=brought).server_tool_turns == UNKNOWN_TURNS


HIGH = 10_650  # 7,100 for a square, and half as much again


@pytest.mark.parametrize(
    ("tools", "tokens"),
    [
        ([{}], HIGH),
        ([{"quality": "auto", "size": "auto"}], HIGH),
        ([{"quality": "low", "size": "1024x1024"}], 500),
        ([{"quality": "Low", "size": "1024x1024"}, {"quality": "high"}], HIGH),
        ([{"quality": "max", "size": "3840x2160"}], 224_649),
        ([{"partial_images": 3}], HIGH + 300),
        ([{"partial_images": 10**9}], HIGH + 10_000),
        ([{"output_format": "gif"}], 16 * HIGH),
        ([{"quality": 7, "size": None, "partial_images": "3", "output_format": []}], HIGH),
    ],
)
def test_an_image_of_the_providers_tool_has_a_size_and_a_quality(tools: list[dict[str, Any]], tokens: int) -> None:
    listed = [{"type": "web_search"}, *({"type": "image_generation", **tool} for tool in tools)]
    assert ask("responses", input="x", tools=listed).image_tool_tokens == tokens


def test_a_tool_for_images_may_come_in_other_ways() -> None:
    assert ask("responses", input="x", tools=[{"type": "web_search"}]).image_tool_tokens == 0
    assert ask("responses", input="image_generation").image_tool_tokens == 0
    brought = [{"type": "additional_tools", "role": "developer", "tools": [{"type": "image_generation"}]}]
    assert ask("responses", input=brought).image_tool_tokens == HIGH
    escaped = rb'{"model":"m","input":"x","tools":[{"type":"image_generation","qual\u0069ty":"m\u0061x"}]}'
    assert OPENAI.read_request("responses", escaped).ask.image_tool_tokens == 4 * HIGH


def test_a_tool_that_writes_svg_is_refused_as_it_is_for_images() -> None:
    with pytest.raises(Refused) as caught:
        ask("responses", input="x", tools=[{"type": "image_generation", "output_format": "svg"}])
    assert (caught.value.code, caught.value.param) == ("not_supported", "tools")


@pytest.mark.parametrize("kind", ["openrouter:advisor", "openrouter:adv\\u0069sor"])
def test_an_advisor_is_another_model_than_was_judged(kind: str) -> None:
    body = b'{"model":"m","messages":[],"tools":[{"type":"%b","parameters":{"model":"dear"}}]}' % kind.encode()
    with pytest.raises(Refused) as caught:
        OPENAI.read_request(CHAT, body)
    assert (caught.value.code, caught.value.param) == ("not_supported", "tools")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("conversation", "conv_1"),
        ("conversation", {"id": "conv_1"}),
        ("deferred", True),
        ("models", ["a", "b"]),
        ("preset", "mine"),
        ("multi_agent", {"enabled": True}),
    ],
)
def test_what_would_escape_metering_is_refused(name: str, value: object) -> None:
    error = refused("responses", input="x", **{name: value})
    assert (error.code, error.param) == ("not_supported", name)
    assert ask("responses", input="x", **{name: None})
    assert ask("responses", input="x", background=False)
    assert ask("responses", input="x", multi_agent={"enabled": False})
    assert refused(CHAT, messages=HELLO, background=True).param == "background"
    assert refused("responses.compact", input="x", background=True).param == "background"


def test_what_a_response_goes_on_from_and_whether_it_is_kept_is_read() -> None:
    usual = ask("responses", input="x")
    assert (usual.continues, usual.stores, usual.background) == ("", True, False)
    asked = ask("responses", input="x", previous_response_id="resp_1", store=False, background=True)
    assert (asked.continues, asked.stores, asked.background) == ("resp_1", False, True)
    for value in ("", "x" * 201, "resp\n1", 5):
        assert refused("responses", input="x", previous_response_id=value).param == "previous_response_id"
    assert refused("responses", input="x", store="no").param == "store"
    assert refused("responses", input="x", STORE=False).param == "STORE"


def test_counting_is_free_and_goes_on_from_a_response_too() -> None:
    asked = ask("responses.input_tokens", input="x", previous_response_id="resp_1")
    assert asked.free
    assert not asked.generates
    assert asked.continues == "resp_1"


def test_a_compaction_has_no_maximum_that_could_be_lowered() -> None:
    request = read("responses.compact", input="x", previous_response_id="resp_1", max_output_tokens=50)
    assert request.ask.output_fixed
    assert (request.ask.output_tokens_max, request.outputs) == (None, ())
    assert (request.ask.unbounded_input, request.ask.stores) == ("a stored response", False)


def test_about_a_stored_response_the_path_says_all() -> None:
    request = OPENAI.read_request("responses.cancel", b'{"model": "m"}')
    assert (request.ask.free, request.ask.model, request.upstream_body(model="m")) == (True, "", b"")


def test_embeddings_generate_nothing() -> None:
    for value in ("x", ["x", "{y}"], [1, 2], [[1], [2]]):
        read_ask = ask("embeddings", input=value)
        assert (read_ask.generates, read_ask.unbounded_input) == (False, "")
    images = ask("embeddings", input=[{"image": "https://x"}] * 3)
    assert (images.unbounded_input, images.inputs) == ("content of an unknown shape", 3)


def test_seconds_of_audio_in_a_chat_are_bounded_wherever_it_is_fetched_from() -> None:
    sound = {"type": "input_audio", "input_audio": "https://x"}
    seconds = dict(ask(CHAT, messages=[{"role": "user", "content": [sound]}]).extras)["audio_seconds"]
    assert seconds >= 3 * 3_600
    assert ask(CHAT, messages=[{"role": "user", "content": "an audio"}]).extras == ()
    film = {"type": "video_url", "video_url": {"url": "https://x"}}
    assert "audio_seconds" in dict(ask(CHAT, messages=[{"role": "user", "content": [film, sound]}]).extras)


@pytest.mark.parametrize(
    ("body", "turns", "extras"),
    [
        ({"plugins": [{"id": "web"}]}, 1, {}),
        ({"plugins": [{"id": "web", "max_results": 50}]}, 1, {"web_search": 9}),
        ({"plugins": [{"id": "web", "max_results": 6}]}, 1, {"web_search": 1}),
        (
            {"tools": [{"type": "openrouter:web_search", "parameters": {"max_results": 20}}]},
            UNKNOWN_TURNS,
            {"web_search": 30},
        ),
        ({"model": "m:free:online"}, 1, {}),
    ],
)
@pytest.mark.parametrize("endpoint", [CHAT, "responses"])
def test_what_a_search_finds_is_billed_by_the_result(
    endpoint: str, body: dict[str, Any], turns: int, extras: dict[str, int]
) -> None:
    text = {"messages": HELLO} if endpoint == CHAT else {"input": "Hi"}
    found = ask(endpoint, **text, **body)
    assert (found.server_tool_turns, dict(found.extras)) == (turns, extras)


def test_documents_are_billed_by_the_page_unless_the_parser_is_free() -> None:
    pdf = {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}}
    messages = [{"role": "user", "content": [pdf]}]
    assert dict(ask(CHAT, messages=messages).extras) == {"pages": 1_000}
    free = [{"id": "file-parser", "pdf": {"engine": "pdf-text"}}]
    assert ask(CHAT, messages=messages, plugins=free).extras == ()
    assert ask(CHAT, messages=messages, plugins=[{"id": "file-parser"}]).extras


def test_the_end_user_is_the_safety_identifier_else_the_user() -> None:
    assert ask(CHAT, messages=HELLO, safety_identifier="a", user="b").end_user == "a"
    assert ask(CHAT, messages=HELLO, user="b").end_user == "b"
    assert len(ask(CHAT, messages=HELLO, user="x" * 65).end_user) == 64
    assert ask(CHAT, messages=HELLO, user="x" * 65).end_user != ask(CHAT, messages=HELLO, user="x" * 66).end_user
    assert ask(CHAT, messages=HELLO, user="a\nb").end_user.isprintable()
    assert refused(CHAT, user=7).param == "user"


@pytest.mark.parametrize(
    ("control", "ttl"),
    [
        ("", ""),
        (',"cache_control" : null', ""),
        (',"cache_control":{"type":"ephemeral"}', "5m"),
        (',"cache_control":{"type":"ephemeral","ttl" : "1h"}', "1h"),
        (',"cache_control":{"type":"ephemeral","ttl":"1\\u0068"}', "1h"),
        (',"cache_control":{"type":"ephemeral","ttl":"\\u0031h"}', "1h"),
        (',"c\\u0061che_control":{"type":"ephemeral"}', "1h"),
    ],
)
def test_cache_writes_are_seen_however_they_are_spelled(control: str, ttl: str) -> None:
    part = '{"type":"text","text":"words of \\"cache_control\\" and \\\\u0061"' + control + "}"
    body = '{"model":"m","messages":[{"role":"user","content":[' + part + "]}]}"
    assert OPENAI.read_request(CHAT, body.encode()).ask.cache_write_ttl == ttl


def test_tiers_are_strings() -> None:
    assert ask(CHAT, messages=HELLO, service_tier="flex").service_tier == "flex"
    assert refused(CHAT, service_tier=1).param == "service_tier"
    assert refused(CHAT, service_tier="x" * 65).param == "service_tier"


def test_a_deep_or_endless_body_costs_little() -> None:
    nested: Any = "x"
    for _ in range(200):
        nested = [{"type": "tool_result", "content": nested}]
    assert ask(CHAT, messages=[{"role": "user", "content": nested}]).unbounded_input == "content of an unknown shape"
    body = b'{"model":"m","messages":[' + b"{}," * 300_000 + b"{}]}"
    assert OPENAI.read_request(CHAT, body).ask.unbounded_input == "content of an unknown shape"
    for depth in range(200, 1200, 3):
        deep = (
            b'{"model":"m","tools":'
            + b"[" * depth
            + b"]" * depth
            + b',"messages":'
            + b"[" * depth
            + b"]" * depth
            + b"}"
        )
        try:
            OPENAI.read_request(CHAT, deep)
        except Refused as error:
            assert error.code == "bad_request"


@pytest.mark.parametrize("endpoint", ["chat.completions", "responses"])
def test_images_are_counted_with_their_bytes(endpoint: str) -> None:
    kind = "image_url" if endpoint == "chat.completions" else "input_image"
    text = "text" if endpoint == "chat.completions" else "input_text"
    image = {"type": kind, "image_url": "data:image/png;base64," + "x" * 5_000}
    content = [{"type": text, "text": "what is this?"}, image, image]
    name = "messages" if endpoint == "chat.completions" else "input"
    body = json.dumps({"model": "m", name: [{"role": "user", "content": content}]}).encode()
    asked = OPENAI.read_request(endpoint, body).ask
    assert (asked.unbounded_input, asked.images) == ("images", 2)
    assert 10_000 < asked.image_bytes < asked.input_bytes
    with_more = body.replace(b'"user"', b'"user", "audio": {"id": "a"}')
    if endpoint == "chat.completions":
        assert OPENAI.read_request(endpoint, with_more).ask.unbounded_input == "a stored audio answer"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (rb'"modalities":["text","\u0061udio"]', AUDIO),
        (rb'"modalities":["text","audi\u006F"]', AUDIO),
        (rb'"extra_body":{"google":{"c\u0061ched_content":"c1"}}', "a cached content"),
    ],
)
def test_a_word_spelled_with_escapes_is_that_word(body: bytes, reason: str) -> None:
    asked = OPENAI.read_request(CHAT, b'{"model":"m","messages":[],%b}' % body).ask
    assert asked.unbounded_input == reason


def test_other_escapes_are_text() -> None:
    body = rb'{"model":"m","messages":[{"role":"user","content":"a \\u0061 \u00e9 \u003c\n"}],"modalities":["text"]}'
    asked = OPENAI.read_request(CHAT, body).ask
    assert (asked.unbounded_input, asked.cache_write_ttl) == ("", "")


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "n_predict"])
def test_an_output_maximum_of_0_is_none_to_some_servers(name: str) -> None:
    with pytest.raises(Refused, match=f"{name} must be at least 1"):
        read(CHAT, **{name: 0})


def test_completions_may_be_scored_and_are_held_without_a_maximum() -> None:
    asked = read("completions", prompt="x", max_tokens=0)
    assert (asked.ask.output_tokens_max, asked.ask.output_fixed, asked.outputs) == (None, True, ())


def test_answers_that_were_heard_are_referred_to() -> None:
    heard = {"role": "assistant", "audio": {"id": "audio_1"}}
    assert ask(CHAT, messages=[heard, {"role": "user", "content": "and?"}]).refers_to == ("audio_1",)
    assert ask(CHAT, messages=HELLO, modalities=["text", "audio"], audio={"voice": "alloy"}).refers_to == ()


@pytest.mark.parametrize(
    ("item", "refers_to", "mentions"),
    [
        ({"type": "item_reference", "id": "msg_1"}, ("msg_1",), ()),
        ({"id": "msg_1"}, ("msg_1",), ()),
        ({"id": "ui-1", "role": "user", "content": ""}, (), ()),
        ({"type": "image_generation_call", "id": "ig_1", "result": " ", "quality": "high"}, ("ig_1",), ()),
        ({"type": "image_generation_call", "id": "ig_1", "result": "AAAA"}, (), ()),
        (
            {"type": "message", "id": "msg_1", "role": "assistant", "status": "incomplete", "content": []},
            (),
            ("msg_1",),
        ),
        ({"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "so"}]}, (), ("rs_1",)),
        ({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}, (), ()),
        ({"type": "reasoning", "id": None, "summary": []}, (), ()),
        ({"type": "web_search_call", "id": "ws_1", "status": "completed"}, (), ()),
        ({"type": "additional_tools", "tools": [{"type": "code_interpreter", "container": "cntr_1"}]}, ("cntr_1",), ()),
    ],
)
def test_an_item_refers_to_what_only_its_id_tells(
    item: dict[str, Any], refers_to: tuple[str, ...], mentions: tuple[str, ...]
) -> None:
    found = ask("responses", input=[{"role": "user", "content": "Hi"}, item])
    assert (found.refers_to, found.mentions) == (refers_to, mentions)


def test_no_spelling_hides_a_reference() -> None:
    item = rb'{"type":"image\u005fgeneration_call","\u0069d":"ig_1","result": null ,"quality":"high"}'
    body = b'{"model":"m","input":[%b]}' % item
    assert OPENAI.read_request("responses", body).ask.refers_to == ("ig_1",)
    empty = b'{"model":"m","input":[{"type":"reasoning","id":"rs_1","content":[ ]}]}'
    assert OPENAI.read_request("responses", empty).ask.mentions == ("rs_1",)
    for endpoint in ("responses", "responses.input_tokens"):
        with pytest.raises(Refused):
            OPENAI.read_request(endpoint, b'{"model":"m","input":[{"type":"item_reference","id":"a","id":"b"}]}')
    with pytest.raises(Refused):
        OPENAI.read_request(CHAT, b'{"model":"m","messages":[{"role":"assistant","audio":{"id":"a","id":"b"}}]}')


def test_what_a_message_says_is_judged_whatever_type_it_says_it_is() -> None:
    film = [{"type": "video_url", "video_url": {"url": "https://x"}}]
    for kind in ("text", "thinking"):
        assert ask(CHAT, messages=[{"role": "user", "type": kind, "content": film}]).unbounded_input
    spoken = ask(CHAT, messages=[{"role": "assistant", "type": "text", "audio": {"id": "audio_1"}}])
    assert spoken.unbounded_input and spoken.refers_to == ("audio_1",)
    file = [{"type": "input_file", "file_id": "file_1"}]
    assert ask("responses", input=[{"type": "function_call", "role": "user", "content": file}]).unbounded_input


def test_pages_are_held_for_whatever_else_is_there() -> None:
    pdf = {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}}
    film = {"type": "video_url", "video_url": {"url": "https://x"}}
    messages = [{"role": "user", "content": [film, pdf]}]
    assert dict(ask(CHAT, messages=messages).extras)["pages"] == 1_000
    parsers = [{"id": "file-parser", "pdf": {"engine": engine}} for engine in ("pdf-text", "mistral-ocr")]
    assert dict(ask(CHAT, messages=messages, plugins=parsers).extras)["pages"] == 1_000
