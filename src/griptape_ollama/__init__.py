"""Run Griptape agents on models served by Ollama, without losing anything on the way."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from griptape_ollama.context.preview import PromptPreview
    from griptape_ollama.context.tokenizer import OllamaTokenizer
    from griptape_ollama.context.tokens.regression import TokenEstimate
    from griptape_ollama.drivers.config import OllamaDriversConfig
    from griptape_ollama.drivers.embedding import OllamaEmbeddingDriver
    from griptape_ollama.drivers.prompt import OllamaPromptDriver
    from griptape_ollama.errors import (
        OllamaAuthError,
        OllamaBusyError,
        OllamaCancelledError,
        OllamaConnectionError,
        OllamaContentError,
        OllamaContextError,
        OllamaDiskError,
        OllamaEmbeddingError,
        OllamaError,
        OllamaGatewayError,
        OllamaModelNotFoundError,
        OllamaQuotaError,
        OllamaResponseError,
        OllamaSlotError,
        OllamaStreamError,
        OllamaTimeoutError,
    )
    from griptape_ollama.events import (
        OllamaContextEvent,
        OllamaEmbeddingEvent,
        OllamaProgressEvent,
        OllamaResponseEvent,
        ReasoningChunkEvent,
    )
    from griptape_ollama.lifecycle.lifecycle import ModelLifecycle
    from griptape_ollama.models.ollama_models import OllamaModels
    from griptape_ollama.observability.metrics import OllamaMetrics
    from griptape_ollama.observability.statistics import OllamaStatistics
    from griptape_ollama.observability.thresholds import OllamaAlert, OllamaThreshold
    from griptape_ollama.structures.chunk_listener import OllamaChunk
    from griptape_ollama.structures.stream import OllamaStream
    from griptape_ollama.transport.blocking_warning import OllamaBlockingWarning
    from griptape_ollama.transport.cancel_scope import CancelScope, cancel_after, cancel_scope
    from griptape_ollama.transport.timeouts import OllamaTimeout

__all__ = [
    "CancelScope",
    "ModelLifecycle",
    "OllamaAlert",
    "OllamaAuthError",
    "OllamaBlockingWarning",
    "OllamaBusyError",
    "OllamaCancelledError",
    "OllamaChunk",
    "OllamaConnectionError",
    "OllamaContentError",
    "OllamaContextError",
    "OllamaContextEvent",
    "OllamaDiskError",
    "OllamaDriversConfig",
    "OllamaEmbeddingDriver",
    "OllamaEmbeddingError",
    "OllamaEmbeddingEvent",
    "OllamaError",
    "OllamaGatewayError",
    "OllamaMetrics",
    "OllamaModelNotFoundError",
    "OllamaModels",
    "OllamaProgressEvent",
    "OllamaPromptDriver",
    "OllamaQuotaError",
    "OllamaResponseError",
    "OllamaResponseEvent",
    "OllamaSlotError",
    "OllamaStatistics",
    "OllamaStream",
    "OllamaStreamError",
    "OllamaThreshold",
    "OllamaTimeout",
    "OllamaTimeoutError",
    "OllamaTokenizer",
    "PromptPreview",
    "ReasoningChunkEvent",
    "TokenEstimate",
    "cancel_after",
    "cancel_scope",
]

# Names are looked up when they are first asked for, so that nobody waits for parts that he does not use.
_MODULES = {
    "CancelScope": "transport.cancel_scope",
    "ModelLifecycle": "lifecycle.lifecycle",
    "OllamaAlert": "observability.thresholds",
    "OllamaAuthError": "errors",
    "OllamaBlockingWarning": "transport.blocking_warning",
    "OllamaBusyError": "errors",
    "OllamaCancelledError": "errors",
    "OllamaChunk": "structures.chunk_listener",
    "OllamaConnectionError": "errors",
    "OllamaContentError": "errors",
    "OllamaContextError": "errors",
    "OllamaContextEvent": "events",
    "OllamaDiskError": "errors",
    "OllamaDriversConfig": "drivers.config",
    "OllamaEmbeddingDriver": "drivers.embedding",
    "OllamaEmbeddingError": "errors",
    "OllamaEmbeddingEvent": "events",
    "OllamaError": "errors",
    "OllamaGatewayError": "errors",
    "OllamaMetrics": "observability.metrics",
    "OllamaModelNotFoundError": "errors",
    "OllamaModels": "models.ollama_models",
    "OllamaProgressEvent": "events",
    "OllamaPromptDriver": "drivers.prompt",
    "OllamaQuotaError": "errors",
    "OllamaResponseError": "errors",
    "OllamaResponseEvent": "events",
    "OllamaSlotError": "errors",
    "OllamaStatistics": "observability.statistics",
    "OllamaStream": "structures.stream",
    "OllamaStreamError": "errors",
    "OllamaThreshold": "observability.thresholds",
    "OllamaTimeout": "transport.timeouts",
    "OllamaTimeoutError": "errors",
    "OllamaTokenizer": "context.tokenizer",
    "PromptPreview": "context.preview",
    "ReasoningChunkEvent": "events",
    "TokenEstimate": "context.tokens.regression",
    "cancel_after": "transport.cancel_scope",
    "cancel_scope": "transport.cancel_scope",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
