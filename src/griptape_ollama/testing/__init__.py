"""A simulator of an Ollama server, for tests and demos without a model.

It is a real HTTP server on loopback. Needs the extra `testing`.
"""

try:
    import aiohttp as _aiohttp  # noqa: F401  only to say early and clearly that it is missing  # pyright: ignore[reportUnusedImport]
except ImportError as error:
    raise ImportError('the simulator needs aiohttp: pip install "griptape-ollama[testing]"') from error

from griptape_ollama.testing.models.load_settings import Load
from griptape_ollama.testing.models.simulated_model import SimulatedModel
from griptape_ollama.testing.request_log import RecordedRequest, UnexpectedRequestError
from griptape_ollama.testing.script import Reply
from griptape_ollama.testing.simulator import OllamaSimulator

__all__ = ["Load", "OllamaSimulator", "RecordedRequest", "Reply", "SimulatedModel", "UnexpectedRequestError"]
