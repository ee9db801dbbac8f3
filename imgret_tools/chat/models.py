"""Chat models by name: any provider LangChain can name, or the offline one."""

from __future__ import annotations

import os

from imgret_tools.errors import ImgretError
from imgret_tools.extras import needs

with needs("langchain"):
    from langchain_core.language_models import BaseChatModel

OFFLINE = "offline"

KEYS = {
    "anthropic": "ANTHROPIC_API_KEY",
    "openai": "OPENAI_API_KEY",
    "google_genai": "GOOGLE_API_KEY",
    "mistralai": "MISTRAL_API_KEY",
    "groq": "GROQ_API_KEY",
}
"""Where providers look for their key; others (ollama) need none."""


class ModelError(ImgretError):
    """A chat model that cannot be made or does not answer; its text never holds a key."""


def make_model(name: str = "") -> BaseChatModel:
    """The chat model `provider:model` (openai:..., anthropic:..., ollama:...), or the offline one for an empty name.

    Raises:
        ModelError: the provider's package or key is missing, or nobody knows the provider.
    """
    if name in ("", OFFLINE):
        from imgret_tools.chat.offline import OfflineModel

        return OfflineModel()
    provider, colon, model = name.partition(":")
    if not colon or not provider or not model:
        raise ModelError(
            "IMGRET_MODEL is {name!r}; expected provider:model, such as anthropic:MODEL or ollama:MODEL. Leave "
            "it empty for the offline model.",
            name=name,
        )
    key = KEYS.get(provider)
    if key and not os.environ.get(key):
        raise ModelError(
            "Model {name} needs a key: set {key}, or leave IMGRET_MODEL empty for the offline model.",
            name=name,
            key=key,
        )
    try:
        from langchain.chat_models import init_chat_model

        made = init_chat_model(model, model_provider=provider)
    except ImportError as error:
        package = f"langchain-{provider.replace('_', '-')}"
        raise ModelError(
            "Model {name} needs packages that are missing: pip install langchain {package}", name=name, package=package
        ) from error
    except ValueError as error:
        raise ModelError(
            "LangChain makes no model of provider {provider!r}; see its list for init_chat_model.", provider=provider
        ) from error
    except Exception as error:
        raise ModelError(
            "Model {name} could not be made ({kind}); check its name and settings.",
            name=name,
            kind=type(error).__name__,
        ) from error
    if not isinstance(made, BaseChatModel):
        raise ModelError("Model {name} is no chat model; name one with provider:model.", name=name)
    return made
