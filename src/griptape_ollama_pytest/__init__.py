"""pytest fixtures for agents that run on Ollama; see docs/testing.md.

pytest imports this at the start of every run, wanted or not. So it stands beside the package, whose import brings
Griptape along, and imports what the fixtures need when a test asks for them.
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
