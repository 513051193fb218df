"""What is read from requests to Bedrock. The bodies are made up."""

import json
from typing import Any

import pytest

from llmctl.dialects.bedrock.dialect import BEDROCK
from llmctl.dialects.bedrock.request import with_headers
from llmctl.dialects.request import Request
from llmctl.dialects.table import lookup
from llmctl.domain.call import Ask
from llmctl.domain.demand import IMAGES, UNKNOWN_TURNS
from llmctl.domain.errors import Refused

CLAUDE = "us.anthropic.claude-x-v1:0"
HELLO = [{"role": "user", "content": [{"text": "Hello"}]}]
SAY = [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]


def converse(**body: Any) -> Request:
    return BEDROCK.read_request("bedrock.converse", json.dumps({"messages": HELLO, **body}).encode(), CLAUDE)


def invoke(model: str = CLAUDE, /, endpoint: str = "bedrock.invoke", **body: Any) -> Request:
    return BEDROCK.read_request(endpoint, json.dumps(body).encode(), model)


def content(*blocks: Any) -> Ask:
    return converse(messages=[{"role": "user", "content": list(blocks)}]).ask


def capped(request: Request) -> dict[str, Any]:
    return json.loads(request.upstream_body(model="x", output_tokens_max=50))


def test_a_plain_conversation_is_bounded_by_its_bytes() -> None:
    body = b'{"messages":[{"role":"user","content":[{"text":"Hello"}]}],"inferenceConfig":{"maxTokens":90}}'
    request = BEDROCK.read_request("bedrock.converse-stream", body, CLAUDE)
    assert request.ask == Ask("bedrock.converse-stream", CLAUDE, True, len(body), output_tokens_max=90)
    assert request.upstream_body(model="other") is body
    assert request.upstream_body(output_tokens_max=50) == body.replace(b"90", b"50")


def test_a_maximum_is_set_and_every_one_is_lowered() -> None:
    assert capped(converse(inferenceConfig={"temperature": 0}))["inferenceConfig"] == {
        "temperature": 0,
        "maxTokens": 50,
    }
    assert capped(converse())["inferenceConfig"] == {"maxTokens": 50}
    both = converse(inferenceConfig={"maxTokens": 70}, additionalModelRequestFields={"max_tokens": 900, "top_k": 1})
    assert both.ask.output_tokens_max == 900
    sent = capped(both)
    assert (sent["inferenceConfig"], sent["additionalModelRequestFields"]) == (
        {"maxTokens": 50},
        {"max_tokens": 50, "top_k": 1},
    )


def test_a_thinking_budget_is_a_floor() -> None:
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 2000}}
    assert converse(additionalModelRequestFields=thinking).ask.output_tokens_floor == 2001
    ask = converse(additionalModelRequestFields=thinking, inferenceConfig={"maxTokens": 1000}).ask
    assert ask.output_tokens_floor == 1000


def test_text_tools_and_their_results_are_bounded_by_their_bytes() -> None:
    ask = content(
        {"text": "Hello"},
        {"toolUse": {"toolUseId": "1", "name": "f", "input": {}}},
        {"toolResult": {"toolUseId": "1", "content": [{"json": {"a": 1}}, {"text": "x"}], "status": "success"}},
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}},
        {"guardContent": {"text": {"text": "x"}}},
        {"document": {"format": "txt", "name": "a", "source": {"text": "plain"}}},
        {"cachePoint": {"type": "default"}},
    )
    assert (ask.unbounded_input, ask.images, ask.server_tool_turns) == ("", 0, 0)
    tools = {"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": {}}}}, {"cachePoint": {"type": "default"}}]}
    assert converse(toolConfig=tools, system=[{"text": "Be brief"}]).ask.server_tool_turns == 0


@pytest.mark.parametrize(
    "block",
    [
        {"document": {"format": "pdf", "name": "a", "source": {"bytes": "AAAA"}}},
        {"image": {"format": "png", "source": {"s3Location": {"uri": "s3://b/k"}}}},
        {"video": {"format": "mp4", "source": {"bytes": "AAAA"}}},
        {"audio": {"format": "mp3", "source": {"bytes": "AAAA"}}},
        {"newBlock": {}},
        {"toolResult": {"toolUseId": "1", "content": [{"document": {"source": {"bytes": "AAAA"}}}]}},
    ],
)
def test_what_is_no_text_is_not(block: dict[str, Any]) -> None:
    ask = content(block)
    assert ask.unbounded_input
    assert ask.unbounded_input != IMAGES


def test_images_are_counted() -> None:
    image = {"image": {"format": "png", "source": {"bytes": "AAAA"}}}
    ask = content(image, {"toolResult": {"toolUseId": "1", "content": [image]}})
    assert (ask.unbounded_input, ask.images) == (IMAGES, 2)


def test_tools_that_the_vendor_runs_take_turns() -> None:
    grounding = {"tools": [{"systemTool": {"name": "nova_grounding"}}]}
    assert converse(toolConfig=grounding).ask.server_tool_turns == UNKNOWN_TURNS
    compaction = {"context_management": {"edits": [{"type": "compact_20260112"}]}}
    assert converse(additionalModelRequestFields=compaction).ask.server_tool_turns == UNKNOWN_TURNS


def test_cache_points_tiers_and_latency_are_read() -> None:
    assert converse().ask.cache_write_ttl == ""
    assert converse(system=[{"cachePoint": {"type": "default"}}]).ask.cache_write_ttl == "5m"
    assert converse(system=[{"cachePoint": {"type": "default", "ttl": "1h"}}]).ask.cache_write_ttl == "1h"
    assert converse(serviceTier={"type": "priority"}).ask.service_tier == "priority"
    assert converse(performanceConfig={"latency": "optimized"}).ask.service_tier == "optimized"
    headers = {"x-amzn-bedrock-service-tier": "priority"}
    assert with_headers(invoke("meta.llama3", prompt="Hi"), headers).ask.service_tier == "priority"
    plain = converse()
    assert with_headers(plain, {}) is plain


@pytest.mark.parametrize(
    "body",
    [
        {"inferenceConfig": {"maxTokens": "5"}},
        {"inferenceConfig": {"MAXTOKENS": 5}},
        {"INFERENCECONFIG": {}},
        {"additionalModelRequestFields": {"Max_Tokens": 5}},
        {"additionalModelRequestFields": []},
        {"serviceTier": {"type": 5}},
    ],
)
def test_what_decides_money_is_read_strictly(body: dict[str, Any]) -> None:
    with pytest.raises(Refused) as caught:
        converse(**body)
    assert caught.value.code == "bad_request"


def test_anthropics_messages_are_read_as_anthropics() -> None:
    request = invoke(
        endpoint="bedrock.invoke-stream",
        anthropic_version="bedrock-2023-05-31",
        max_tokens=900,
        messages=SAY,
        thinking={"type": "enabled", "budget_tokens": 100},
    )
    assert (request.ask.model, request.ask.stream, request.ask.output_tokens_floor) == (CLAUDE, True, 101)
    assert "model" not in capped(request)
    assert capped(request)["max_tokens"] == 50


@pytest.mark.parametrize(
    ("model", "body", "place"),
    [
        ("us.amazon.nova-x", {"messages": HELLO}, "inferenceConfig.maxTokens"),
        (
            "amazon.nova-x",
            {"messages": HELLO, "inferenceConfig": {"max_new_tokens": 90}},
            "inferenceConfig.max_new_tokens",
        ),
        ("amazon.titan-text-x", {"inputText": "Hi"}, "textGenerationConfig.maxTokenCount"),
        ("meta.llama3", {"prompt": "Hi"}, "max_gen_len"),
        ("us.meta.llama3", {"prompt": "Hi", "max_gen_len": 90}, "max_gen_len"),
        ("mistral.large", {"prompt": "Hi"}, "max_tokens"),
        ("cohere.command-r", {"message": "Hi"}, "max_tokens"),
        ("ai21.j2-mid", {"prompt": "Hi"}, "maxTokens"),
        ("anthropic.claude-v2", {"prompt": "\n\nHuman: Hi"}, "max_tokens_to_sample"),
        ("openai.gpt-oss-20b", {"messages": SAY}, "max_completion_tokens"),
        (
            "arn:aws:bedrock:us-east-1:1:application-inference-profile/x",
            {"inputText": "Hi"},
            "textGenerationConfig.maxTokenCount",
        ),
    ],
)
def test_each_vendors_own_maximum_is_lowered(model: str, body: dict[str, Any], place: str) -> None:
    value: Any = capped(invoke(model, **body))
    for name in place.split("."):
        value = value[name]
    assert value == 50


def test_choices_multiply_the_output() -> None:
    assert invoke("cohere.command-x", prompt="Hi", num_generations=3).ask.output_multiplier == 3
    assert invoke("meta.llama3", prompt="Hi").ask.output_multiplier == 1


def test_vectors_generate_nothing_and_reranking_is_billed_by_the_search() -> None:
    assert not invoke("amazon.titan-embed-text-v2:0", inputText="Hi").ask.generates
    ask = invoke("cohere.rerank-v3-5:0", query="q", documents=["a"] * 150).ask
    assert (ask.generates, ask.units) == (False, (("search_units", 2),))
    images = invoke("us.cohere.embed-v4:0", images=["data:"] * 3).ask
    assert (images.unbounded_input, images.inputs) == (IMAGES, 3)


@pytest.mark.parametrize(
    ("body", "generates"),
    [
        ({"inputText": "Hi", "dimensions": 256}, False),
        ({"texts": ["a"], "input_type": "search_document"}, False),
        ({"query": "q", "documents": ["a"]}, False),
        ({"inputText": "Hi"}, True),
        ({"message": "Hi", "query": "q"}, True),
        ({"prompt": "Hi", "texts": ["a"], "normalize": True}, True),
    ],
)
def test_behind_an_alias_the_body_says_whether_vectors_are_made(body: dict[str, Any], generates: bool) -> None:
    assert invoke("fast", **body).ask.generates is generates


@pytest.mark.parametrize("model", ["amazon.nova-canvas-v1:0", "stability.sd3", "amazon.titan-image-generator-v2:0"])
def test_images_and_stored_prompts_are_not_metered(model: str) -> None:
    for named in (model, "arn:aws:bedrock:us-east-1:1:prompt/P:1"):
        with pytest.raises(Refused) as caught:
            invoke(named, prompt="a cat")
        assert caught.value.code == "not_supported"


@pytest.mark.parametrize(
    ("path", "model", "target"),
    [
        ("/model/us.anthropic.claude-x-v1%3A0/converse", CLAUDE, "/model/us.anthropic.claude-x-v1%3A0/converse"),
        ("/model/us.anthropic.claude-x-v1:0/converse", CLAUDE, "/model/us.anthropic.claude-x-v1%3A0/converse"),
        (
            "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fus.x/invoke-with-response-stream",
            "arn:aws:bedrock:us-east-1:1:inference-profile/us.x",
            "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fus.x/invoke-with-response-stream",
        ),
    ],
)
def test_model_ids_and_arns_stand_in_the_path(path: str, model: str, target: str) -> None:
    match = lookup("POST", path, {})
    assert (match.model, match.target(model)) == (model, target)


def test_texts_of_a_request_for_an_estimate() -> None:
    text = BEDROCK.input_text(converse(system=[{"text": "Be brief"}]))
    assert (text.messages, text.framed) == ((("system", "Be brief"), ("user", "Hello")), True)
    text = BEDROCK.input_text(invoke("cohere.rerank-v3", query="q", documents=["a", "b"]))
    assert (text.messages, text.framed) == ((("user", "q"), ("user", "a"), ("user", "b")), False)


def test_media_whose_names_are_written_in_escapes_are_media() -> None:
    body = b'{"inputs": [{"im\\u0061ge": {"s3Loc\\u0061tion": {"uri": "s3://"}}}], "texts": ["x"]}'
    request = BEDROCK.read_request("bedrock.invoke", body, "us.cohere.embed-v4:0")
    assert request.ask.unbounded_input == IMAGES
