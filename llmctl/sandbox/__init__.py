"""The built-in sandbox provider: an offline stand-in for an LLM, in the dialects of OpenAI and Anthropic.

It runs as a real HTTP server on loopback, so that a person without any provider's credential sees the whole
gateway work. No model answers here, but the token counts are honest: usage is what tiktoken counts for the
text. Nothing that is sent to it is kept, but responses that it is asked to store, for a day.
"""

from llmctl.sandbox.app import Sandbox
from llmctl.sandbox.models import MODELS, SandboxModel

__all__ = ["MODELS", "Sandbox", "SandboxModel"]
