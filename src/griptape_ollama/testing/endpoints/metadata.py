"""The endpoints that only look: show, tags, ps, version."""

from collections.abc import Callable, Mapping
from typing import Any

from griptape_ollama.testing import validation
from griptape_ollama.testing.endpoints.show import show_body, tags_body
from griptape_ollama.testing.error_replies import Refusal
from griptape_ollama.testing.json_text import as_text, encode
from griptape_ollama.testing.models.simulated_model import with_tag
from griptape_ollama.testing.request_context import Exchange
from griptape_ollama.testing.response_writer import Outgoing, plain
from griptape_ollama.testing.script import Entry


async def show(exchange: Exchange, _entry: Entry | None) -> Outgoing:
    """Answer `POST /api/show`."""
    catalogue = exchange.state.catalogue
    body = validation.decode(exchange.recorded.raw, "ShowRequest")
    name = as_text(body.get("model")) or as_text(body.get("name"))
    model = catalogue.find(name)
    if model is None:
        raise Refusal(404, f"model '{with_tag(name)}' not found")
    return plain(encode(show_body(model, catalogue.modified_at(model), verbose=body.get("verbose") is True)))


async def look(exchange: Exchange, _entry: Entry | None) -> Outgoing:
    """Answer the requests without a body: tags, ps and version."""
    state = exchange.state
    bodies: Mapping[str, Callable[[], Any]] = {
        "/api/tags": lambda: tags_body(state.catalogue),
        "/api/ps": state.memory.ps,
        "/api/version": lambda: {"version": state.version},
    }
    return plain(encode(bodies[exchange.recorded.path]()))


async def root(_exchange: Exchange, _entry: Entry | None) -> Outgoing:
    """Answer `/`."""
    return plain(b"Ollama is running", content_type="text/plain; charset=utf-8")
