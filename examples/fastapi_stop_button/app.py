"""A chat in the browser, with a Stop button that ends the generation on the server.

    python examples/fastapi_stop_button/app.py [--model NAME] [--host ADDRESS] [--port NUMBER]

Uses the server at OLLAMA_HOST, or at the default address, if it has a chat model. Otherwise it starts the simulator of
`griptape_ollama.testing`, and prints that. Needs fastapi and uvicorn.
"""

import argparse
import contextlib
import html
import json
import logging
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated
from weakref import WeakSet

import uvicorn
from fastapi import Cookie, Depends, FastAPI, HTTPException
from fastapi.responses import HTMLResponse, StreamingResponse
from griptape.structures import Agent
from pydantic import BaseModel, Field

from griptape_ollama import (
    CancelScope,
    OllamaCancelledError,
    OllamaError,
    OllamaPromptDriver,
    OllamaStream,
    cancel_scope,
)
from griptape_ollama.testing import OllamaSimulator, RecordedRequest

PAGE = Path(__file__).with_name("index.html")
MAX_CHATS = 100  # kept in memory; the oldest are dropped
STREAMED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # no proxy buffers the answer


class Question(BaseModel):
    """The request of the page."""

    text: str = Field(min_length=1, max_length=20_000)


class Chat:
    """One browser's conversation."""

    def __init__(self, driver: OllamaPromptDriver) -> None:
        # Griptape renders the text that an agent is run with as a Jinja template, with which a stranger could call
        # Python. The value of a variable stays plain text.
        self._agent = Agent(input="{{ args[0] }}", prompt_driver=driver)
        self._scopes: WeakSet[CancelScope] = WeakSet()

    def ask(self, question: str) -> AsyncIterator[str]:
        """Return the answer as lines of JSON, while the model generates it."""
        scope = cancel_scope()
        self._scopes.add(scope)
        return self._answer(question, scope)

    async def _answer(self, question: str, scope: CancelScope) -> AsyncIterator[str]:
        try:
            with scope:
                # A client that disconnects cancels this task, which leaves the block.
                async with OllamaStream(self._agent).run(question) as run:
                    async for chunk in run:
                        yield _line(text=chunk)
            yield _line(done=True)
        except OllamaCancelledError:
            yield _line(stopped=True)
        except OllamaError as error:
            yield _line(error=str(error))

    def stop(self) -> None:
        """Cancel all running answers."""
        for scope in self._scopes:
            scope.cancel()

    def remembered(self) -> list[dict[str, str]]:
        """Return the exchanges that the next prompt contains."""
        memory = self._agent.conversation_memory
        return [{"question": str(run.input), "answer": str(run.output)} for run in memory.runs] if memory else []


def _line(**fields: object) -> str:
    return json.dumps(fields) + "\n"


def create_app(driver: OllamaPromptDriver, title: str) -> FastAPI:
    """Build the application.

    Args:
        driver: Generates the answers, for all chats.
        title: Text of the page about the model that answers.
    """
    app = FastAPI()
    page = PAGE.read_text(encoding="utf-8").replace("{title}", html.escape(title))
    chats: dict[str, Chat] = {}

    def chat_of(session: Annotated[str, Cookie()] = "") -> Chat:
        if session not in chats:
            raise HTTPException(404, "This chat is gone. Reload the page to begin another one.")
        return chats[session]

    @app.get("/")
    async def show_page(session: Annotated[str, Cookie()] = "") -> HTMLResponse:
        response = HTMLResponse(page)
        if session not in chats:
            session = secrets.token_urlsafe()
            chats[session] = Chat(driver)
            for oldest in list(chats)[:-MAX_CHATS]:
                del chats[oldest]
            response.set_cookie("session", session, httponly=True, samesite="strict")
        return response

    @app.get("/messages")
    async def show_messages(chat: Annotated[Chat, Depends(chat_of)]) -> list[dict[str, str]]:
        return chat.remembered()

    @app.post("/messages")
    async def ask(question: Question, chat: Annotated[Chat, Depends(chat_of)]) -> StreamingResponse:
        return StreamingResponse(chat.ask(question.text), media_type="application/x-ndjson", headers=STREAMED)

    @app.post("/stop", status_code=204)
    async def stop(chat: Annotated[Chat, Depends(chat_of)]) -> None:
        chat.stop()

    return app


def find_model(host: str | None) -> str | None:
    """Return a chat model of the server; None if there is no server or no chat model."""
    metadata = OllamaPromptDriver(model="", host=host).facts
    names = [str(model["name"]) for model in metadata.tags() if "name" in model]
    return next((name for name in names if metadata.show(name).can("completion")), None)


def count(request: RecordedRequest) -> str:
    """Return a long reply for the simulator."""
    questions = sum(message["role"] == "user" for message in request.messages)
    numbers = " ".join(map(str, range(1, 1001)))
    return f"Questions that I was sent: {questions}. I am no language model, so I just count: {numbers}"


@contextlib.contextmanager
def server(host: str | None, model: str | None) -> Iterator[tuple[OllamaPromptDriver, str]]:
    """Yield a driver, and the title of the page."""
    if found := model or find_model(host):
        driver = OllamaPromptDriver(model=found, host=host)
        yield driver, f"Model {found} of the Ollama server at {driver.connection.base_url}"
        return
    if host is not None:
        raise SystemExit(f"No Ollama server with a chat model answers at {host}. Start it with `ollama serve`.")
    with OllamaSimulator(tokens_per_second=10) as simulator:
        simulator.reply(count, times=None)
        driver = OllamaPromptDriver(model="simulator", host=simulator.host)
        yield driver, "No Ollama server answers: this is the SIMULATOR, not a language model"


def main() -> None:
    """Serve the page, on this machine only."""
    parser = argparse.ArgumentParser(description="A chat in the browser, with a Stop button.")
    parser.add_argument("--model", help="model to use (default: one that the server has)")
    parser.add_argument("--host", help="address of the server (default: OLLAMA_HOST, then this machine)")
    parser.add_argument("--port", type=int, default=8000, help="port of the page (default: 8000)")
    arguments = parser.parse_args()
    logging.getLogger("griptape").setLevel(logging.CRITICAL)  # the page shows failures
    try:
        with server(arguments.host, arguments.model) as (driver, title):
            print(title, flush=True)
            # On Ctrl-C, running answers are cancelled after a second.
            uvicorn.run(create_app(driver, title), port=arguments.port, timeout_graceful_shutdown=1)
    except OllamaError as error:
        raise SystemExit(f"{error}") from error


if __name__ == "__main__":
    main()
