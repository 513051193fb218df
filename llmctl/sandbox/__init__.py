"""The built-in sandbox provider: an offline stand-in for an LLM, in the dialects of OpenAI, Anthropic and Gemini.

It runs as a real HTTP server on loopback, so that a person without any provider's credential sees the whole
gateway work. No model answers here, but the token counts are honest: usage is what tiktoken counts for the
text. Nothing that is sent to it is kept, but responses that it is asked to store, for a day.
"""

from .app import Sandbox
from .models import MODELS

__all__ = ["MODELS", "Sandbox"]
