"""Gemini's dialect, at Google AI and Vertex AI."""
