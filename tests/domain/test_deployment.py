from __future__ import annotations

import pytest

from llmctl.domain.deployment import named, sold_as

OWN = "arn:aws:bedrock:us-east-1:1:application-inference-profile/x1"
DEPLOYMENTS = {named("My-GPT5"): "gpt-5", named(OWN): "us.anthropic.claude-b"}


@pytest.mark.parametrize(
    ("model", "sold"),
    [
        ("my-gpt5", "gpt-5"),
        ("MY-GPT5", "gpt-5"),  # the same to Azure
        (OWN, "us.anthropic.claude-b"),
        ("arn:aws:bedrock:us-east-1::foundation-model/meta.llama3-v1:0", "meta.llama3-v1:0"),
        ("gpt-4o", "gpt-4o"),
        ("GPT-4o", "GPT-4o"),
    ],
)
def test_a_model_is_sold_as_what_its_deployment_is(model: str, sold: str) -> None:
    assert sold_as(DEPLOYMENTS, model) == sold


def test_where_nothing_is_deployed_each_model_is_itself() -> None:
    assert sold_as({}, "my-gpt5") == "my-gpt5"
