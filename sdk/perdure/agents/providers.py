"""Whose model a name means."""

from __future__ import annotations

from typing import Final

__all__ = ["full_model_name"]

_PROVIDERS: Final = {
    # By chat completions, which servers that are compatible with OpenAI have; pydantic-ai's plain
    # `openai:` means the Responses API, which most of them lack.
    "gpt-": "openai-chat",
    "chatgpt-": "openai-chat",
    "o1": "openai-chat",
    "o3": "openai-chat",
    "o4": "openai-chat",
    "ft:gpt-": "openai-chat",
    "claude-": "anthropic",
    "gemini-": "google",
    "grok-": "xai",
    "mistral-": "mistral",
    "ministral-": "mistral",
    "magistral-": "mistral",
    "codestral-": "mistral",
    "command-": "cohere",
    "deepseek-": "deepseek",
    "kimi-": "moonshotai",
}
"""pydantic-ai's names of providers, by how the names of their models begin."""


def full_model_name(name: str) -> str:
    """Return a model's name with its provider, as pydantic-ai takes it.

    Raises:
        ValueError: There is no provider in it, and none that it could be.
    """
    for prefix, provider in _PROVIDERS.items():
        if name.startswith(prefix):
            return f"{provider}:{name}"
    if ":" in name.strip(":") or name == "test":
        return name
    raise ValueError(
        f"whose model is {name!r}? Write 'provider:{name}', for example 'openai-chat:{name}' for a "
        f"server that is compatible with OpenAI"
    )
