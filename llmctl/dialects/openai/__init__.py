"""OpenAI's dialect, which most providers speak."""
