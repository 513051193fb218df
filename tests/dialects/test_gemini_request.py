"""What is read from requests in the Gemini dialect. The bodies are made up."""

import json
import time
from typing import Any

import pytest

from llmctl.dialects.gemini.dialect import GEMINI
from llmctl.dialects.request import Request
from llmctl.domain.call import Ask
from llmctl.domain.demand import UNKNOWN_TURNS
from llmctl.domain.errors import Refused

HELLO = [{"role": "user", "parts": [{"text": "Hello"}]}]


def read(endpoint: str = "generateContent", path_model: str = "m", **body: Any) -> Request:
    return GEMINI.read_request(endpoint, json.dumps({"contents": HELLO, **body}).encode(), path_model)


def ask(**body: Any) -> Ask:
    return read(**body).ask


def parts(*parts: Any) -> Ask:
    return ask(contents=[{"parts": list(parts)}])


def refused(endpoint: str = "generateContent", **body: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        read(endpoint, **body)
    return caught.value


def test_plain_text_is_bounded_by_its_bytes_and_passes_as_it_came() -> None:
    body = b'{"contents": [{"parts": [{"text": "Hello"}]}], "generationConfig": {"maxOutputTokens": 9}, "new": [1]}'
    request = GEMINI.read_request("streamGenerateContent", body, "gemini-x")
    assert request.ask == Ask(
        "streamGenerateContent", "gemini-x", True, len(body), output_tokens_max=9, media_output=True
    )
    assert request.upstream_body(model="another") is body
    assert request.upstream_body(output_tokens_max=5) == body.replace(b": 9}", b": 5}")
    assert request.upstream_body(output_tokens_max=10) is body


@pytest.mark.parametrize(
    ("config", "written"),
    [
        (b"", b'{"generationConfig":{"maxOutputTokens":7},"contents":[]}'),
        (b',"generation_config":{"seed":1}', b',"generation_config":{"maxOutputTokens":7,"seed":1}'),
        (b',"generationConfig":null', b',"generationConfig":{"maxOutputTokens":7}'),
        (b',"generationConfig":{"max_output_tokens":null}', b',"generationConfig":{"max_output_tokens":7}'),
        (b',"generationConfig":{"max_output_tokens":8}', b',"generationConfig":{"max_output_tokens":7}'),
    ],
)
def test_an_output_maximum_is_set_in_the_clients_own_spelling(config: bytes, written: bytes) -> None:
    request = GEMINI.read_request("generateContent", b'{"contents":[]%b}' % config, "m")
    assert written in request.upstream_body(output_tokens_max=7, output_field="max_tokens")


@pytest.mark.parametrize(
    "body",
    [
        {"generationConfig": {}, "generation_config": {"maxOutputTokens": 1}},
        {"generationConfig": {"maxOutputTokens": 1, "max_output_tokens": 100_000}},
        {"generationConfig": {"maxoutputtokens": 1}},
        {"generationConfig": {"MAX_OUTPUT_TOKENS": 1}},
        {"generationConfig": {"max_outputTokens": 1}},
        {"generationConfig": {"maxOutputTokens": "100"}},
        {"generationConfig": {"maxOutputTokens": 100.0}},
        {"generationConfig": {"maxOutputTokens": -1}},
        {"generationConfig": {"candidateCount": "2"}},
        {"generationConfig": {"candidate_count": 2, "candidateCount": 1}},
        {"generationConfig": {"thinkingConfig": {"thinkingBudget": -2}}},
        {"generationConfig": {"thinkingConfig": {"thinkingBudget": 1, "thinking_budget": 9}}},
        {"generationConfig": [], "contents": HELLO},
        {"cachedContent": "a", "cached_content": "b"},
        {"serviceTier": 3},
        {"model": "models/another"},
        {"model": 5},
    ],
)
def test_what_two_readers_could_read_differently_is_refused(body: dict[str, Any]) -> None:
    assert refused(**body).code == "bad_request"


def test_a_name_that_stands_there_twice_is_refused() -> None:
    for body in (
        b'{"generationConfig":{"maxOutputTokens":1,"maxOutputTokens":9}}',
        b'{"contents":[],"contents":[{"parts":[]}]}',
        b'{"contents":[{"parts":[{"inlineData":{"mimeType":"text/plain","mimeType":"video/mp4"}}]}]}',
    ):
        with pytest.raises(Refused, match="twice"):
            GEMINI.read_request("generateContent", body, "m")


def test_candidates_multiply_the_output() -> None:
    assert ask(generationConfig={"candidateCount": 3}).output_multiplier == 3
    assert ask(generation_config={"candidate_count": 3}).output_multiplier == 3
    assert ask(generationConfig={"candidateCount": 0}).output_multiplier == 1


@pytest.mark.parametrize(
    ("budget", "maximum", "floor"), [(2000, 5000, 2001), (2000, None, 2001), (2000, 100, 100), (-1, 50, 0), (0, 50, 0)]
)
def test_a_thinking_budget_has_to_fit(budget: int, maximum: int | None, floor: int) -> None:
    config = {"thinkingConfig": {"thinkingBudget": budget}, "maxOutputTokens": maximum}
    assert ask(generationConfig=config).output_tokens_floor == floor
    assert ask(generation_config={"thinking_config": {"thinking_budget": budget}}).output_tokens_floor == max(
        0, budget + 1 if budget > 0 else 0
    )


PNG = {"inlineData": {"mimeType": "image/png", "data": "aGVsbG8="}}


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ({"text": "x", "thought": True, "thoughtSignature": "abc", "partMetadata": {"a": 1}}, ""),
        ({"text": "x", "fileData": None, "inline_data": None, "functionResponse": None}, ""),
        ({"functionCall": {"name": "f", "args": {"inlineData": {"deep": [1]}}}}, ""),
        ({"function_response": {"name": "f", "response": {"a": 1}}}, ""),
        ({"executableCode": {"language": "PYTHON", "code": "1"}}, ""),
        ({"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}}, ""),
        ({"inlineData": {"mimeType": "text/plain", "data": "aGVsbG8="}}, ""),
        ({"inline_data": {"mime_type": "audio/mp3", "data": "aGVsbG8="}}, "audio"),
        ({"inlineData": {"mimeType": "VIDEO/mp4", "data": "aGVsbG8="}}, "video"),
        ({"inlineData": {"mimeType": "application/pdf", "data": "aGVsbG8="}}, "files"),
        ({"inlineData": {"data": "aGVsbG8="}}, "content of an unknown shape"),
        ({"inlineData": {"mimeType": "text/plain", "mime_type": "video/mp4"}}, "content of an unknown shape"),
        ({"fileData": {"fileUri": "https://x/files/1"}}, "a file by its URI"),
        ({"file_data": {"file_uri": "gs://x/1"}}, "a file by its URI"),
        ({"functionResponse": {"name": "f", "parts": [{"fileData": {}}]}}, "a file by its URI"),
        ({"toolResponse": {"id": "1"}}, "content of an unknown shape"),
        ({"brandNew": {"a": 1}}, "content of an unknown shape"),
    ],
)
def test_what_bytes_do_not_bound_is_named(part: dict[str, Any], reason: str) -> None:
    assert parts({"text": "see"}, part).unbounded_input == reason
    assert ask(contents={"parts": part}).unbounded_input == reason  # a list of one may be written as the one
    assert ask(systemInstruction={"parts": [part]}).unbounded_input == reason


def test_images_are_counted_with_their_bytes() -> None:
    asked = parts(PNG, {"functionResponse": {"name": "f", "parts": [PNG]}}, {"text": "what is it?"})
    assert (asked.unbounded_input, asked.images) == ("images", 2)
    assert asked.image_bytes == 2 * len('"image/png""aGVsbG8="')
    both = parts(PNG, {"fileData": {"fileUri": "u"}})
    assert both.unbounded_input == "a file by its URI"


def test_cached_contents_are_references() -> None:
    assert ask(cachedContent="cachedContents/1").unbounded_input == "a cached content"
    assert ask(cached_content="cachedContents/1").unbounded_input == "a cached content"
    assert ask(cachedContent=None).unbounded_input == ""


@pytest.mark.parametrize(
    ("tools", "turns"),
    [
        ([{"functionDeclarations": [{"name": "google_search"}]}], 0),
        ([{"function_declarations": []}, {"computerUse": {}}], 0),
        ({"functionDeclarations": []}, 0),
        ([{"functionDeclarations": [{"name": "f"}], "googleSearch": None}], 0),
        ([], 0),
        ([{"googleSearch": {}}], UNKNOWN_TURNS),
        ([{"google_search": {}, "functionDeclarations": []}], UNKNOWN_TURNS),
        ({"urlContext": {}}, UNKNOWN_TURNS),
        ([{"code_execution": {}}], UNKNOWN_TURNS),
        ([{"fileSearch": {}}], UNKNOWN_TURNS),
        ([{"brandNew": {}}], UNKNOWN_TURNS),
        ("search", UNKNOWN_TURNS),
    ],
)
def test_tools_that_google_runs_bill_the_input_again(tools: Any, turns: int) -> None:
    assert ask(tools=tools).server_tool_turns == turns


def test_media_may_be_answered_unless_only_text_is_asked_for() -> None:
    assert ask().media_output  # models that make images do so unasked
    assert ask(generationConfig={"responseModalities": ["TEXT", "IMAGE"]}).media_output
    assert ask(generation_config={"response_modalities": ["AUDIO"]}).media_output
    assert not ask(generationConfig={"responseModalities": ["TEXT"]}).media_output


@pytest.mark.parametrize(
    ("tier", "read_as"), [("priority", "priority"), ("FLEX", "flex"), ("standard", ""), (None, "")]
)
def test_the_tier_that_is_asked_for(tier: str | None, read_as: str) -> None:
    assert ask(serviceTier=tier).service_tier == read_as
    assert ask(service_tier=tier).service_tier == read_as


def test_a_configuration_that_chooses_the_model_is_refused() -> None:
    assert refused(generationConfig={"routingConfig": {"autoMode": {}}}).code == "not_supported"
    assert refused(generation_config={"model_selection_config": {}}).code == "not_supported"


def test_the_model_is_renamed_wherever_the_body_names_it() -> None:
    body = (
        b'{"requests": [ {"model":"models/fast","content":{"parts":[{"text":"a"}]}} , {"content":{}, "model":"fast"}]}'
    )
    request = GEMINI.read_request("batchEmbedContents", body, "fast")
    assert request.ask == Ask("batchEmbedContents", "fast", False, len(body), generates=False)
    renamed = request.upstream_body(model="embedding-1")
    assert renamed == body.replace(b"models/fast", b"models/embedding-1").replace(b'"fast"', b'"embedding-1"')
    assert request.upstream_body(model="fast") is body
    counted = read("countTokens", "fast", generateContentRequest={"model": "models/fast", "contents": HELLO})
    assert json.loads(counted.upstream_body(model="g-1"))["generateContentRequest"]["model"] == "models/g-1"
    assert counted.ask.free


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("batchEmbedContents", {"requests": [{"model": "models/dearer"}]}),
        ("batchEmbedContents", {"requests": [{"model": "models/m", "MODEL": "models/dearer"}]}),
        ("batchEmbedContents", {"requests": "all"}),
        ("batchEmbedContents", {"requests": [1]}),
        ("embedContent", {"model": "models/dearer"}),
        ("countTokens", {"generateContentRequest": {"model": "dearer"}}),
    ],
)
def test_a_body_that_names_another_model_than_the_path_is_refused(endpoint: str, body: dict[str, Any]) -> None:
    assert refused(endpoint, **body).code == "bad_request"


def test_embeddings_of_images_are_bounded_as_images() -> None:
    asked = read("embedContent", content={"parts": [{"text": "a"}, PNG]}).ask
    assert (asked.unbounded_input, asked.images, asked.generates) == ("images", 1, False)
    batch = read("batchEmbedContents", requests=[{"content": {"parts": [PNG]}}, {"content": {"parts": [PNG]}}]).ask
    assert (batch.unbounded_input, batch.images) == ("images", 2)
    reference = read("batchEmbedContents", requests=[{"content": {"parts": [{"fileData": {}}]}}]).ask
    assert reference.unbounded_input == "a file by its URI"


def test_each_content_of_a_batch_may_fill_the_window_if_one_is_no_text() -> None:
    sound = {"content": {"parts": [{"inlineData": {"mimeType": "audio/ogg", "data": "AAAA"}}]}}
    assert read("batchEmbedContents", requests=[sound] * 50).ask.inputs == 50
    assert read("batchEmbedContents", requests=[{"content": {"parts": [{"text": "a"}]}}] * 50).ask.inputs == 1
    assert read("embedContent", **sound).ask.inputs == 1


def test_of_predictions_embeddings_of_text_are_metered() -> None:
    instances = [{"content": "a", "task_type": "RETRIEVAL_QUERY"}, {"content": "b", "title": "c"}]
    request = read("predict", instances=instances, contents=None)
    assert (request.ask.endpoint, request.ask.generates, request.ask.unbounded_input) == ("predict", False, "")
    assert [text for _, text in GEMINI.input_text(request).messages] == ["a", "bc"]
    for instance in ({"prompt": "a cat"}, {"content": "a", "image": {}}, {"content": {"gcsUri": "gs://x"}}):
        assert refused("predict", instances=[instance]).code == "not_supported"
    assert refused("predict").code == "bad_request"


def test_names_of_models_are_bounded() -> None:
    with pytest.raises(Refused):
        read(path_model="x" * 201)


def test_the_text_of_a_request_is_found_for_estimates() -> None:
    request = read(
        systemInstruction={"parts": {"text": "Be brief."}},
        contents=[{"parts": [{"text": "Hi"}]}, {"role": "model", "parts": [{"functionCall": {"name": "f"}}]}],
        tools=[{"functionDeclarations": []}],
    )
    text = GEMINI.input_text(request)
    assert text.messages == (("system", "Be brief."), ("user", "Hi"), ("model", '{"name":"f"}'))
    assert text.tools == '[{"functionDeclarations": []}]'
    batch = read("batchEmbedContents", requests=[{"content": {"parts": [{"text": "a"}]}}], contents=None)
    assert GEMINI.input_text(batch).messages == (("user", "a"),)


def test_a_long_batch_is_read_in_one_go() -> None:
    body = b'{"requests":[%b]}' % (b" " * 1_000).join([b'{"model":"models/m"},'] * 9_999 + [b'{"model":"models/m"}'])
    began_s = time.process_time()
    request = GEMINI.read_request("batchEmbedContents", body, "m")
    assert time.process_time() - began_s < 2
    assert request.upstream_body(model="n") == body.replace(b"models/m", b"models/n")
    with pytest.raises(Refused, match="more than 10,000"):
        GEMINI.read_request("batchEmbedContents", json.dumps({"requests": [{}] * 10_001}).encode(), "m")
