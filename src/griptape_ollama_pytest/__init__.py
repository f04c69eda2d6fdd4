"""pytest fixtures for agents that run on Ollama; see docs/testing.md.

pytest imports this at the start of every run. So it is a package of its own, since importing `griptape_ollama` imports
Griptape, and it imports what the fixtures need when a test requests them.
"""

from griptape_ollama_pytest.fixtures import (
    ollama_embedding_driver,
    ollama_prompt_driver,
    ollama_simulator,
    pytest_configure,
    pytest_runtest_call,
    pytest_runtest_makereport,
)

__all__ = [
    "ollama_embedding_driver",
    "ollama_prompt_driver",
    "ollama_simulator",
    "pytest_configure",
    "pytest_runtest_call",
    "pytest_runtest_makereport",
]
