"""Questions about the docs of this project, answered from them: by a RagEngine, and by an Agent with a search tool.

    python examples/rag.py [--model NAME] [--embedding-model NAME] [--host ADDRESS] [QUESTION]

Uses the server at OLLAMA_HOST, or at the default address, if it has a chat model and an embedding model. Otherwise it
starts the simulator of `griptape_ollama.testing`, and prints that. The environment variables RAG_MODEL and
RAG_EMBEDDING_MODEL also select models.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from griptape.artifacts import BaseArtifact, ListArtifact, TextArtifact
from griptape.chunkers import MarkdownChunker
from griptape.common import Reference
from griptape.configs import Defaults
from griptape.engines.rag import RagEngine
from griptape.engines.rag.modules import FootnotePromptResponseRagModule, VectorStoreRetrievalRagModule
from griptape.engines.rag.stages import ResponseRagStage, RetrievalRagStage
from griptape.events import EventListener
from griptape.structures import Agent
from griptape.tokenizers import SimpleTokenizer
from griptape.tools import VectorStoreTool

from griptape_ollama import OllamaDriversConfig, OllamaEmbeddingEvent, OllamaError, OllamaPromptDriver
from griptape_ollama.testing import OllamaSimulator

ROOT = Path(__file__).resolve().parents[1]
QUESTION = "What happens with images at a private address?"
FOUND = {"count": 3}
# A section or less, and at most what small models accept: all-minilm has a window of 256 tokens. The tokenizer is an
# estimate, because Griptape's default is OpenAI's, which has to be downloaded.
CHUNKER = MarkdownChunker(
    tokenizer=SimpleTokenizer(characters_per_token=4, max_input_tokens=200, max_output_tokens=200)
)


def read_docs() -> list[TextArtifact]:
    """Split the README and the pages of docs/ into chunks with a reference to their file."""
    chunks: list[TextArtifact] = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        name = page.relative_to(ROOT).as_posix()
        # The reference is part of the id in the store: with a fixed one, the next run has the same ids.
        reference = Reference(id=name, title=name)
        chunks += CHUNKER.chunk(TextArtifact(page.read_text(encoding="utf-8"), reference=reference))
    return chunks


class Meter:
    """Counts the texts that the server embeds."""

    def __init__(self) -> None:
        self._events: list[OllamaEmbeddingEvent] = []

    def __call__(self, event: OllamaEmbeddingEvent) -> None:
        """Count one reply; several threads call this."""
        self._events.append(event)

    def read(self) -> str:
        """Return what was embedded since the last call."""
        events, self._events = self._events, []
        return f"{sum(event.texts for event in events)} texts embedded in {len(events)} requests"


def index(chunks: list[TextArtifact], meter: Meter) -> None:
    """Add chunks to the default vector store."""
    config = Defaults.drivers_config
    started = time.monotonic()
    with config.embedding_driver.prefetch(chunks):
        config.vector_store_driver.upsert_collection(chunks)
    print(f"Indexed {len(chunks)} chunks: {meter.read()}, {time.monotonic() - started:.2f} s.")


def sources(artifacts: Iterable[BaseArtifact]) -> str:
    """Return the names of the files of artifacts."""
    titles = [artifact.reference.title for artifact in artifacts if artifact.reference]
    return ", ".join(dict.fromkeys(titles)) or "none, the model did not search"


def ask_engine(question: str) -> None:
    """Search, then have the model answer from the results."""
    engine = RagEngine(
        retrieval_stage=RetrievalRagStage(retrieval_modules=[VectorStoreRetrievalRagModule(query_params=FOUND)]),
        response_stage=ResponseRagStage(response_modules=[FootnotePromptResponseRagModule()]),
    )
    context = engine.process_query(question)
    print(f"\nRagEngine: {context.outputs[0]}\nSources:   {sources(context.text_chunks)}")


def ask_agent(question: str) -> None:
    """Have the model choose what it searches for."""
    found: list[BaseArtifact] = []

    def remember(entries: list[Any]) -> ListArtifact:
        artifacts = [entry.to_artifact() for entry in entries]
        found.extend(artifacts)
        return ListArtifact([TextArtifact(f"{artifact.reference.title}: {artifact}") for artifact in artifacts])

    tool = VectorStoreTool(
        description="Documentation of griptape-ollama",
        vector_store_driver=Defaults.drivers_config.vector_store_driver,
        query_params=FOUND,
        process_query_output=remember,
    )
    prompt = f'Search the documentation for "{question}" and answer. Name the files that you found it in.'
    output = Agent(tools=[tool], max_subtasks=5).run(prompt).output
    if getattr(output, "exception", None) is not None:
        raise SystemExit(f"\n{output}")
    print(f"\nAgent:     {output}\nSources:   {sources(found)}")


def find_models(host: str | None) -> tuple[str | None, str | None]:
    """Return a chat model, preferably with tools, and an embedding model; None for a kind that is missing."""
    metadata = OllamaPromptDriver(model="", host=host).facts
    abilities = {
        str(model["name"]): metadata.show(str(model["name"])).capabilities or ()
        for model in metadata.tags()
        if "name" in model
    }
    chat = [name for name, can in abilities.items() if "completion" in can]
    chat.sort(key=lambda name: "tools" not in abilities[name])
    return next(iter(chat), None), next((name for name, can in abilities.items() if "embedding" in can), None)


@contextlib.contextmanager
def server(host: str | None, model: str | None, embedding_model: str | None) -> Iterator[OllamaDriversConfig]:
    """Yield drivers for the server, or for the simulator if there is no server."""
    chat, embed = (model, embedding_model) if model and embedding_model else find_models(host)
    chat, embed = model or chat, embedding_model or embed
    if chat and embed:
        config = OllamaDriversConfig(prompt_model=chat, embedding_model=embed, host=host)
        print(f"Models {chat} and {embed} of the Ollama server at {config.prompt_driver.connection.base_url}\n")
        yield config
        return
    if host or model or embedding_model:
        raise SystemExit(
            f"No Ollama server with a chat model and an embedding model answers at {host or 'its address'}. Start it "
            "with `ollama serve`, and get models with `ollama pull`, for example qwen3 and nomic-embed-text."
        )
    with OllamaSimulator() as simulator:
        print("No Ollama server with a chat model and an embedding model answers: this is the SIMULATOR talking.")
        print("It is no language model, and its vectors know letters, not meanings.\n")
        yield OllamaDriversConfig(prompt_model="simulator", embedding_model="simulator-embed", host=simulator.host)


def main() -> None:
    """Index, index again, and ask a question twice."""
    parser = argparse.ArgumentParser(description="Questions about the docs of this project, answered from them.")
    parser.add_argument("question", nargs="?", default=QUESTION, help=f"what to ask (default: {QUESTION})")
    parser.add_argument(
        "--model", default=os.environ.get("RAG_MODEL"), help="chat model (default: one of the server's)"
    )
    parser.add_argument(
        "--embedding-model",
        default=os.environ.get("RAG_EMBEDDING_MODEL"),
        help="embedding model (default: one of the server's)",
    )
    parser.add_argument("--host", help="address of the server (default: OLLAMA_HOST, then this machine)")
    arguments = parser.parse_args()
    logging.getLogger("griptape").setLevel(logging.CRITICAL)  # the failure is printed once, at the end
    meter = Meter()
    try:
        with (
            server(arguments.host, arguments.model, arguments.embedding_model) as config,
            EventListener(meter, event_types=[OllamaEmbeddingEvent]),
        ):
            config.prompt_driver.max_tokens = 500
            # From here on, components without a driver use one of these.
            Defaults.drivers_config = config
            chunks = read_docs()
            index(chunks, meter)
            index(chunks, meter)
            print(f"\nQuestion:  {arguments.question}")
            ask_engine(arguments.question)
            ask_agent(arguments.question)
    except OllamaError as error:
        raise SystemExit(f"{error}") from error


if __name__ == "__main__":
    main()
