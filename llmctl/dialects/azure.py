"""Azure OpenAI: the OpenAI dialect at addresses that name a deployment and a version of the API.

https://learn.microsoft.com/azure/ai-foundry/openai/reference and .../api-version-lifecycle. Its errors are OpenAI's
with fewer fields, `code` a string; ours have them all, so that the SDK finds what it looks for.
"""

from __future__ import annotations

from collections.abc import Mapping

from .openai.dialect import OpenAi


class Azure(OpenAi):
    """The model is the deployment, whose name is everybody's own."""

    name = "azure"
    models_target = "/v1/models"  # the older API wants a version of the client's choice

    def credential_headers(self, credential: str) -> Mapping[str, str]:
        return {"api-key": credential}


AZURE = Azure()
