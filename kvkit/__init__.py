"""kvkit deploys, checks and measures shared KV caches for LLM serving."""

__version__ = "0.1.0"
