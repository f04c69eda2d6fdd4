"""Tests of an agent, without a model: pytest examples/testing_agents.py.

The fixtures come with `pip install "griptape-ollama[testing]"`; docs/testing.md explains them.
"""

from typing import Any

import pytest
from griptape.artifacts import ErrorArtifact, TextArtifact
from griptape.structures import Agent
from griptape.tools import BaseTool
from griptape.utils.decorators import activity
from schema import Schema

from griptape_ollama import OllamaPromptDriver
from griptape_ollama.testing import OllamaSimulator


class Lighthouse(BaseTool):
    """A tool of the agent under test."""

    is_lit: bool = False

    @activity(config={"description": "Switches the light", "schema": Schema({"on": bool})})
    def switch(self, params: dict[str, Any]) -> TextArtifact:
        """Switch the light on or off."""
        self.is_lit = params["values"]["on"]
        return TextArtifact(f"The light is {'on' if self.is_lit else 'off'}.")


def test_the_agent_switches_the_light(
    ollama_simulator: OllamaSimulator, ollama_prompt_driver: OllamaPromptDriver
) -> None:
    """The test scripts the replies of the model, and checks what the agent does with them."""
    ollama_simulator.reply(tool_calls=[("Lighthouse_switch", {"on": True})])
    ollama_simulator.reply("The light is on, Ada.")
    tool = Lighthouse()
    output = Agent(prompt_driver=ollama_prompt_driver, tools=[tool]).run("It gets dark.").output
    assert tool.is_lit
    assert str(output) == "The light is on, Ada."
    assert ollama_simulator.last_chat.messages[-1]["content"] == "The light is on."


def test_a_busy_server_is_tried_again(
    ollama_simulator: OllamaSimulator, ollama_prompt_driver: OllamaPromptDriver
) -> None:
    """The simulator injects a fault."""
    ollama_simulator.reply("Good evening.")
    ollama_simulator.fault("status", status=503, error="server busy")
    assert str(Agent(prompt_driver=ollama_prompt_driver).run("Hello").output) == "Good evening."
    assert [request.outcome.status for request in ollama_simulator.chats] == [503, 200]


@pytest.mark.parametrize("after", [0, 2])
def test_a_broken_reply_is_an_error_and_not_an_answer(
    ollama_simulator: OllamaSimulator, ollama_prompt_driver: OllamaPromptDriver, after: int
) -> None:
    """An agent must not use a part of a reply as the answer."""
    ollama_simulator.reply("Do not press the red button.")
    ollama_simulator.fault("no_done", after=after, times=None)
    output = Agent(prompt_driver=ollama_prompt_driver).run("What must I not do?").output
    assert isinstance(output, ErrorArtifact)
