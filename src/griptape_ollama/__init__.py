"""Run Griptape agents on models served by Ollama, without losing anything on the way."""

import importlib
from typing import TYPE_CHECKING, Any

from griptape_ollama.moved_modules import find_moved_modules

# The public names by module. They are imported on first use, so that a program waits only for what it uses.
_EXPORTS = {
    "context.preview": ["PromptPreview"],
    "context.tokenizer": ["OllamaTokenizer"],
    "context.tokens.regression": ["TokenEstimate"],
    "drivers.config": ["OllamaDriversConfig"],
    "drivers.embedding": ["OllamaEmbeddingDriver"],
    "drivers.prompt": ["OllamaPromptDriver"],
    "errors": [
        "OllamaAuthError",
        "OllamaBusyError",
        "OllamaCancelledError",
        "OllamaConnectionError",
        "OllamaContentError",
        "OllamaContextError",
        "OllamaDiskError",
        "OllamaEmbeddingError",
        "OllamaError",
        "OllamaGatewayError",
        "OllamaModelNotFoundError",
        "OllamaQuotaError",
        "OllamaResponseError",
        "OllamaSlotError",
        "OllamaStreamError",
        "OllamaTimeoutError",
    ],
    "events": [
        "OllamaContextEvent",
        "OllamaEmbeddingEvent",
        "OllamaProgressEvent",
        "OllamaResponseEvent",
        "ReasoningChunkEvent",
    ],
    "lifecycle.lifecycle": ["ModelLifecycle"],
    "models.ollama_models": ["OllamaModels"],
    "observability.metrics": ["OllamaMetrics"],
    "observability.statistics": ["OllamaStatistics"],
    "observability.thresholds": ["OllamaAlert", "OllamaThreshold"],
    "structures.chunk_listener": ["OllamaChunk"],
    "structures.stream": ["OllamaStream"],
    "transport.async_bridge": ["OllamaBlockingWarning"],
    "transport.cancel_scope": ["CancelScope", "cancel_after", "cancel_scope"],
    "transport.timeouts": ["OllamaTimeout"],
}
_MODULES = dict(sorted((name, module) for module, names in _EXPORTS.items() for name in names))

__all__ = list(_MODULES)  # pyright: ignore[reportUnsupportedDunderAll]

if TYPE_CHECKING:  # the same names, for type checkers and editors
    from griptape_ollama.context.preview import PromptPreview as PromptPreview
    from griptape_ollama.context.tokenizer import OllamaTokenizer as OllamaTokenizer
    from griptape_ollama.context.tokens.regression import TokenEstimate as TokenEstimate
    from griptape_ollama.drivers.config import OllamaDriversConfig as OllamaDriversConfig
    from griptape_ollama.drivers.embedding import OllamaEmbeddingDriver as OllamaEmbeddingDriver
    from griptape_ollama.drivers.prompt import OllamaPromptDriver as OllamaPromptDriver
    from griptape_ollama.errors import OllamaAuthError as OllamaAuthError
    from griptape_ollama.errors import OllamaBusyError as OllamaBusyError
    from griptape_ollama.errors import OllamaCancelledError as OllamaCancelledError
    from griptape_ollama.errors import OllamaConnectionError as OllamaConnectionError
    from griptape_ollama.errors import OllamaContentError as OllamaContentError
    from griptape_ollama.errors import OllamaContextError as OllamaContextError
    from griptape_ollama.errors import OllamaDiskError as OllamaDiskError
    from griptape_ollama.errors import OllamaEmbeddingError as OllamaEmbeddingError
    from griptape_ollama.errors import OllamaError as OllamaError
    from griptape_ollama.errors import OllamaGatewayError as OllamaGatewayError
    from griptape_ollama.errors import OllamaModelNotFoundError as OllamaModelNotFoundError
    from griptape_ollama.errors import OllamaQuotaError as OllamaQuotaError
    from griptape_ollama.errors import OllamaResponseError as OllamaResponseError
    from griptape_ollama.errors import OllamaSlotError as OllamaSlotError
    from griptape_ollama.errors import OllamaStreamError as OllamaStreamError
    from griptape_ollama.errors import OllamaTimeoutError as OllamaTimeoutError
    from griptape_ollama.events import OllamaContextEvent as OllamaContextEvent
    from griptape_ollama.events import OllamaEmbeddingEvent as OllamaEmbeddingEvent
    from griptape_ollama.events import OllamaProgressEvent as OllamaProgressEvent
    from griptape_ollama.events import OllamaResponseEvent as OllamaResponseEvent
    from griptape_ollama.events import ReasoningChunkEvent as ReasoningChunkEvent
    from griptape_ollama.lifecycle.lifecycle import ModelLifecycle as ModelLifecycle
    from griptape_ollama.models.ollama_models import OllamaModels as OllamaModels
    from griptape_ollama.observability.metrics import OllamaMetrics as OllamaMetrics
    from griptape_ollama.observability.statistics import OllamaStatistics as OllamaStatistics
    from griptape_ollama.observability.thresholds import OllamaAlert as OllamaAlert
    from griptape_ollama.observability.thresholds import OllamaThreshold as OllamaThreshold
    from griptape_ollama.structures.chunk_listener import OllamaChunk as OllamaChunk
    from griptape_ollama.structures.stream import OllamaStream as OllamaStream
    from griptape_ollama.transport.async_bridge import OllamaBlockingWarning as OllamaBlockingWarning
    from griptape_ollama.transport.cancel_scope import CancelScope as CancelScope
    from griptape_ollama.transport.cancel_scope import cancel_after as cancel_after
    from griptape_ollama.transport.cancel_scope import cancel_scope as cancel_scope
    from griptape_ollama.transport.timeouts import OllamaTimeout as OllamaTimeout
else:
    find_moved_modules()


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
