"""Run Griptape agents on models served by Ollama, without losing anything on the way."""

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
    OllamaModelNotFoundError,
    OllamaQuotaError,
    OllamaResponseError,
    OllamaSlotError,
    OllamaStreamError,
    OllamaTimeoutError,
)
from griptape_ollama.events import OllamaEmbeddingEvent, OllamaProgressEvent, OllamaResponseEvent, ReasoningChunkEvent
from griptape_ollama.lifecycle.lifecycle import ModelLifecycle
from griptape_ollama.metrics.metrics import OllamaMetrics
from griptape_ollama.metrics.statistics import OllamaStatistics
from griptape_ollama.metrics.thresholds import OllamaAlert, OllamaThreshold
from griptape_ollama.models.manager import OllamaModels
from griptape_ollama.structures.hearing import OllamaChunk
from griptape_ollama.structures.stream import OllamaStream
from griptape_ollama.transport.limits import OllamaTimeout
from griptape_ollama.transport.scope import CancelScope, cancel_after, cancel_scope

__all__ = [
    "CancelScope",
    "ModelLifecycle",
    "OllamaAlert",
    "OllamaAuthError",
    "OllamaBusyError",
    "OllamaCancelledError",
    "OllamaChunk",
    "OllamaConnectionError",
    "OllamaContentError",
    "OllamaContextError",
    "OllamaDiskError",
    "OllamaDriversConfig",
    "OllamaEmbeddingDriver",
    "OllamaEmbeddingError",
    "OllamaEmbeddingEvent",
    "OllamaError",
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
    "ReasoningChunkEvent",
    "cancel_after",
    "cancel_scope",
]
