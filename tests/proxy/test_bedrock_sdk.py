"""AWS's SDK and Anthropic's for Bedrock through the gateway: what they are told is what is booked. They show our key as
a Bedrock API key; the gateway shows the provider one of its own, or signs with an AWS key."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic
import boto3
import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError, EventStreamError

from llmctl.config.credentials.sigv4 import Signer
from llmctl.domain.errors import ConfigError
from tests.support.daemon import Daemon
from tests.support.frames import chunk, event, exception

from .recorder import Recorder

MODEL = "us.anthropic.claude-b-v1:0"
ARN = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/b1"
SAY = [{"role": "user", "content": [{"text": "Hi"}]}]
USAGE = {"inputTokens": 10, "outputTokens": 4, "totalTokens": 44, "cacheReadInputTokens": 30}
JSON = "application/json"
FRAMES = "application/vnd.amazon.eventstream"

Client = Callable[[str], Any]


@pytest.fixture
def aws(native: Daemon, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    made = []

    def client(key: str, url: str = native.url) -> Any:
        monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", key)
        config = Config(retries={"mode": "standard", "total_max_attempts": 3}, user_agent="boto")
        session = boto3.session.Session(region_name="us-east-1")
        client = session.client("bedrock-runtime", endpoint_url=url.replace("http:", "https:"), config=config)
        client.meta.events.register("before-send.bedrock-runtime", _without_tls)
        made.append(client)
        return client

    yield client
    for one in made:
        one.close()


def _without_tls(request: Any, **_: Any) -> None:
    """In the place of the proxy that ends TLS: the SDK shows a key to nobody without it."""
    request.url = request.url.replace("https:", "http:")


@pytest.fixture(scope="module")
def key(native: Daemon) -> str:
    return native.add_user("bedi")


@pytest.fixture
def user(aws: Client, key: str) -> Any:
    return aws(key)


def last(native: Daemon) -> dict[str, Any]:
    return native.calls("--user", "bedi", "-n", "1", count=1)[0]


def answers(recorder: Recorder, **answer: Any) -> None:
    recorder.reply(json.dumps(answer).encode(), Content_Type=JSON)


def talks(recorder: Recorder) -> None:
    message = {"role": "assistant", "content": [{"text": "Hello"}]}
    answers(recorder, output={"message": message}, stopReason="end_turn", usage=USAGE, metrics={"latencyMs": 1})


@pytest.mark.parametrize(("model", "cost"), [(MODEL, "0.000048000"), (f"bedrock/{ARN}", None)])
def test_a_conversation_is_booked_with_its_cache(
    native: Daemon, user: Any, recorder: Recorder, model: str, cost: str | None
) -> None:
    talks(recorder)
    told = user.converse(modelId=model, messages=SAY, inferenceConfig={"maxTokens": 50})
    assert told["output"]["message"]["content"][0]["text"] == "Hello"
    row = last(native)
    assert (row["input_tokens"], row["cache_read_tokens"], row["output_tokens"]) == (40, 30, 4)
    assert (row["dialect"], row["endpoint"], row["usage_source"]) == ("bedrock", "bedrock.converse", "reported")
    assert row["cost_usd"] == cost  # (40 + 2 * 4) / 1,000,000; nobody has said what the profile is of
    quoted = model.removeprefix("bedrock/").replace(":", "%3A").replace("/", "%2F")
    assert recorder.last.raw_path == f"/model/{quoted}/converse"
    assert recorder.last.headers["Authorization"] == f"Bearer {recorder.api_key}"


def test_a_stream_of_frames_reaches_the_sdk_and_is_booked(native: Daemon, user: Any, recorder: Recorder) -> None:
    frames = (
        event("messageStart", role="assistant")
        + event("contentBlockDelta", contentBlockIndex=0, delta={"text": "naïve"})
        + event("messageStop", stopReason="end_turn")
        + event("metadata", usage=USAGE, metrics={"latencyMs": 1})
    )
    recorder.reply(*(frames[place : place + 40] for place in range(0, len(frames), 40)), Content_Type=FRAMES)
    told = list(user.converse_stream(modelId=MODEL, messages=SAY)["stream"])
    assert told[1]["contentBlockDelta"]["delta"]["text"] == "naïve"
    assert told[-1]["metadata"]["usage"]["outputTokens"] == 4
    row = last(native)
    assert (row["input_tokens"], row["output_tokens"], row["stream"], row["error"]) == (40, 4, True, None)


def test_an_exception_in_a_stream_reaches_the_sdk_and_the_books(native: Daemon, user: Any, recorder: Recorder) -> None:
    recorder.reply(
        event("messageStart", role="assistant") + exception("throttlingException", "slow"), Content_Type=FRAMES
    )
    with closing(user.converse_stream(modelId=MODEL, messages=SAY)["stream"]) as told, pytest.raises(EventStreamError):
        list(told)
    row = last(native)
    assert (row["error"], row["usage_source"]) == ("throttlingException", "estimated")


def test_a_vendors_own_body_is_booked_by_the_headers(native: Daemon, user: Any, recorder: Recorder) -> None:
    recorder.reply(
        b'{"outputs":[{"text":"Hello","stop_reason":"stop"}]}',
        Content_Type=JSON,
        x_amzn_bedrock_input_token_count="12",
        x_amzn_bedrock_output_token_count="7",
    )
    told = user.invoke_model(modelId="mistral.b-v0:2", body=json.dumps({"prompt": "Hi", "max_tokens": 20}))
    assert json.loads(told["body"].read())["outputs"][0]["text"] == "Hello"
    row = last(native)
    assert (row["input_tokens"], row["output_tokens"], row["usage_source"]) == (12, 7, "reported")


def test_a_vendors_own_stream_is_booked_by_its_last_event(native: Daemon, user: Any, recorder: Recorder) -> None:
    metrics = {"inputTokenCount": 9, "outputTokenCount": 3}
    recorder.reply(
        chunk(generation="Hello", prompt_token_count=9),
        chunk(**{"generation": "", "stop_reason": "stop", "amazon-bedrock-invocationMetrics": metrics}),
        Content_Type=FRAMES,
    )
    body = json.dumps({"prompt": "Hi", "max_gen_len": 20})
    told = list(user.invoke_model_with_response_stream(modelId="meta.llama3-b", body=body)["body"])
    assert json.loads(told[0]["chunk"]["bytes"])["generation"] == "Hello"
    row = last(native)
    assert (row["input_tokens"], row["output_tokens"], row["endpoint"]) == (9, 3, "bedrock.invoke-stream")


def test_anthropics_sdk_for_bedrock_streams_too(native: Daemon, key: str, recorder: Recorder) -> None:
    usage = {"input_tokens": 25, "output_tokens": 1}
    message = {"id": "m", "type": "message", "role": "assistant", "model": "c", "content": [], "usage": usage}
    recorder.reply(
        chunk(type="message_start", message=message),
        chunk(type="content_block_start", index=0, content_block={"type": "text", "text": ""}),
        chunk(type="content_block_delta", index=0, delta={"type": "text_delta", "text": "Hello"}),
        chunk(type="message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 6}),
        chunk(**{"type": "message_stop", "amazon-bedrock-invocationMetrics": {"inputTokenCount": 25}}),
        Content_Type=FRAMES,
    )
    asked: Any = {"model": MODEL, "max_tokens": 50, "messages": [{"role": "user", "content": "Hi"}]}
    with anthropic.AnthropicBedrock(base_url=native.url, api_key=key, aws_region="us-east-1", max_retries=0) as claude:
        told = list(claude.messages.create(**asked, stream=True))
    assert told[2].delta.text == "Hello"
    row = last(native)
    assert (row["input_tokens"], row["output_tokens"], row["response_model"]) == (25, 6, "c")


def test_counting_tokens_is_free(native: Daemon, user: Any, recorder: Recorder) -> None:
    answers(recorder, inputTokens=8)
    assert user.count_tokens(modelId=MODEL, input={"converse": {"messages": SAY}})["inputTokens"] == 8
    row = last(native)
    assert (row["endpoint"], row["input_tokens"], Decimal(row["cost_usd"])) == ("bedrock.count-tokens", 0, 0)


def test_near_the_end_of_a_limit_the_maximum_is_lowered(native: Daemon, aws: Client, recorder: Recorder) -> None:
    secret = native.add_user("bedi-capped")
    native.here("limit", "set", "--user", "bedi-capped", "--cost", "0.01", "--per", "month")
    talks(recorder)
    aws(secret).converse(modelId=MODEL, messages=SAY, inferenceConfig={"maxTokens": 50_000})
    assert 256 <= recorder.last.json["inferenceConfig"]["maxTokens"] < 5_000


def test_a_spent_limit_is_raised_by_name_and_not_tried_again(native: Daemon, aws: Client, recorder: Recorder) -> None:
    secret = native.add_user("bedi-spent")
    native.here("limit", "set", "--user", "bedi-spent", "--requests", "1", "--per", "total")
    talks(recorder)
    spender = aws(secret)
    spender.converse(modelId=MODEL, messages=SAY)
    with pytest.raises(spender.exceptions.ServiceQuotaExceededException, match="bedi-spent") as refused:
        spender.converse(modelId=MODEL, messages=SAY)
    assert refused.value.response["ResponseMetadata"]["RetryAttempts"] == 0
    assert len(recorder.sent) == 1


def test_a_providers_error_reaches_the_sdk_as_the_provider_wrote_it(user: Any, recorder: Recorder) -> None:
    kind = "ValidationException:http://internal.amazon.com/coral/com.amazon.bedrock/"
    recorder.reply(b'{"message":"bad model"}', status=400, Content_Type=JSON, x_amzn_errortype=kind)
    with pytest.raises(user.exceptions.ValidationException, match="bad model"):
        user.converse(modelId=MODEL, messages=SAY)


def test_a_refused_credential_is_ours_and_not_tried_again(native: Daemon, user: Any, recorder: Recorder) -> None:
    recorder.reply(b'{"message":"The security token is expired"}', status=403, Content_Type=JSON)
    with pytest.raises(ClientError) as refused:
        user.converse(modelId=MODEL, messages=SAY)
    assert refused.value.response["Error"]["Code"] == "ModelErrorException"
    assert "refuses the gateway's credential" in refused.value.response["Error"]["Message"]
    assert len(recorder.sent) == 1


def test_a_client_that_signs_is_told_what_to_do(native: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_BEARER_TOKEN_BEDROCK", raising=False)
    session = boto3.session.Session("AKIDEXAMPLE", "secret", region_name="us-east-1")
    client = session.client("bedrock-runtime", endpoint_url=native.url)
    with pytest.raises(ClientError, match="set AWS_BEARER_TOKEN_BEDROCK to your key") as refused:
        client.converse(modelId=MODEL, messages=SAY)
    client.close()
    assert refused.value.response["Error"]["Code"] == "AccessDeniedException"


def test_what_is_not_metered_is_refused(native: Daemon, user: Any, key: str) -> None:
    with pytest.raises(ClientError, match="not metered"):
        user.invoke_model(modelId="amazon.nova-canvas-v1:0", body=b'{"taskType":"TEXT_IMAGE"}')
    answer = native.send("/guardrail/g1/version/1/apply", {}, key=key)
    assert (answer.status, answer.json["__type"]) == (404, "ResourceNotFoundException")


def test_requests_are_signed_with_an_aws_key(tmp_path: Path, recorder: Recorder, aws: Client) -> None:
    (tmp_path / "aws").write_text("AKIDEXAMPLE:wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY:session+token/==")
    root = recorder.base_url.removesuffix("/v1")
    providers = f"""
        [providers.bedrock]
        base_url = "{root}"
        region = "eu-central-1"
        auth = "sigv4"
        credential_file = "{tmp_path / "aws"}"
    """
    with Daemon(tmp_path, providers) as daemon:
        key = daemon.add_user("signed")
        user = aws(key, daemon.url)
        talks(recorder)
        user.converse(modelId=ARN, messages=SAY)
        (row,) = daemon.calls(count=1)
        assert (row["state"], row["output_tokens"]) == ("settled", 4)
        sent = recorder.last
        # What AWS says of a signature that does not fit: the whole request as it should have been signed.
        said = {"message": f"x-amz-security-token:session+token/== {sent.headers['Authorization']}"}
        recorder.reply(json.dumps(said).encode(), status=400, Content_Type="application/json")
        answer = daemon.send(f"/model/{ARN.replace('/', '%2F')}/converse", {"messages": SAY}, key=key)
        assert answer.status == 400 and "x-amz-security-token:*** AWS4-HMAC" in answer.json["message"]
    assert sent.headers["X-Amz-Security-Token"] == "session+token/=="
    assert re.search(r"Credential=AKIDEXAMPLE/\d{8}/eu-central-1/bedrock/aws4_request", sent.headers["Authorization"])
    assert sent.headers["Authorization"] == signature_of(
        f"{root}{sent.raw_path}", sent.body, sent.headers["X-Amz-Date"]
    )


def test_a_credential_that_is_no_aws_key_cannot_sign() -> None:
    for credential in ("AKIDEXAMPLE", "AKIDEXAMPLE:", "a:b:c:d", "ABSKQmVkcm9jaw=="):
        with pytest.raises(ConfigError, match="ACCESS_KEY_ID:SECRET_ACCESS_KEY") as refused:
            Signer(credential, "us-east-1")
        assert credential not in str(refused.value)


def signature_of(url: str, body: bytes, date: str) -> str:
    """By AWS's library, at that time."""
    key = Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "session+token/==")
    auth, request = botocore.auth.SigV4Auth(key, "bedrock", "eu-central-1"), AWSRequest("POST", url, data=body)
    request.context["timestamp"] = date
    request.headers["X-Amz-Date"] = date
    request.headers["X-Amz-Security-Token"] = key.token
    assert datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).year >= 2026
    text = auth.string_to_sign(request, auth.canonical_request(request))
    signed = auth.signed_headers(auth.headers_to_sign(request))
    return (
        f"AWS4-HMAC-SHA256 Credential={auth.scope(request)}, SignedHeaders={signed}, "
        f"Signature={auth.signature(text, request)}"
    )
