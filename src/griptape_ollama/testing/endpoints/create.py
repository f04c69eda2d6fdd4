"""The endpoints that make models: create, and the blobs that it reads."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from griptape_ollama.testing import validation
from griptape_ollama.testing.endpoints.transfers import JSON, failure, install, pull_lines, report, status
from griptape_ollama.testing.error_replies import Refusal
from griptape_ollama.testing.json_text import as_list, as_object, as_text, encode
from griptape_ollama.testing.models.registry import PullError, installed_digests, layers_of
from griptape_ollama.testing.models.simulated_model import SimulatedModel, is_name
from griptape_ollama.testing.request_context import Exchange, State
from griptape_ollama.testing.response_writer import Outgoing, TimedLine, plain
from griptape_ollama.testing.script import Entry

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_QUANTIZATIONS = ("F32", "F16", "Q4_K_S", "Q4_K_M", "Q8_0")


async def create(exchange: Exchange, _entry: Entry | None) -> Outgoing:
    """Answer `POST /api/create`."""
    state = exchange.state
    body = validation.decode(exchange.recorded.raw, "CreateRequest")
    name = as_text(body.get("model")) or as_text(body.get("name"))
    if not is_name(name):
        raise Refusal(400, "invalid model name")
    files = as_object(body.get("files"))
    if any(path.startswith(("/", "..")) for path in files):
        raise Refusal(400, "file path must be relative")
    try:
        lines, parent = _parent(state, body, files)
        if parent is None:
            return await report(exchange, lines)
        model = _derived(parent, body, as_text(body.get("from")))
    except Refusal as refusal:
        return _refused_late(exchange, refusal)
    return await report(
        exchange, _created(state, lines, model), lambda: state.catalogue.add(model, name, state.clock.now_ns)
    )


async def has_blob(exchange: Exchange, _entry: Entry | None) -> Outgoing:
    """Answer `HEAD /api/blobs/<digest>`."""
    if _digest(exchange) not in exchange.state.blobs:
        raise Refusal(404, f'blob "{exchange.detail}" not found')
    return Outgoing(content_type=None)


async def add_blob(exchange: Exchange, _entry: Entry | None) -> Outgoing:
    """Answer `POST /api/blobs/<digest>`."""
    digest, blobs = _digest(exchange), exchange.state.blobs
    if digest in blobs:
        return Outgoing(content_type=None, length=0)
    found = f"sha256:{hashlib.sha256(exchange.recorded.raw).hexdigest()}"
    if found != digest:
        raise Refusal(400, f'digest mismatch, expected "{digest}", got "{found}"')
    blobs[digest] = exchange.recorded.raw
    return Outgoing(status=201, content_type=None, length=0)


def _digest(exchange: Exchange) -> str:
    if not _DIGEST.fullmatch(exchange.detail):
        raise Refusal(400, "invalid digest format")
    return exchange.detail


def _parent(
    state: State, body: Mapping[str, Any], files: Mapping[str, Any]
) -> tuple[list[TimedLine] | Iterator[TimedLine], SimulatedModel | None]:
    """Find what the new model is made from; None where the lines end in an error.

    Raises:
        Refusal: It cannot be made from anything.
    """
    source = as_text(body.get("from"))
    if source:
        if not is_name(source):
            raise Refusal(400, "invalid model name")
        if installed := state.catalogue.get(source):
            return [], installed
        try:
            pulled = state.library.find(source, insecure=True)
        except PullError as error:
            return [status("pulling manifest"), failure(str(error))], None
        return _pulled(state, pulled, source), pulled
    if not files:
        raise Refusal(400, "neither 'from' or 'files' was specified")
    path, digest = next(iter(files.items()))
    if not path.endswith(".gguf"):
        raise Refusal(400, "unknown type")
    lines = [status("parsing GGUF")]
    blob = state.blobs.get(as_text(digest))
    if blob is None:
        where = f"/models/blobs/{as_text(digest).replace(':', '-')}"
        return [*lines, failure(f"open {where}: no such file or directory")], None
    if not blob.startswith(b"GGUF"):
        return [*lines, failure("supplied file was not in GGUF format")], None
    return lines, SimulatedModel(name="gguf", size=len(blob), weights=as_text(digest), capabilities=("completion",))


def _pulled(state: State, model: SimulatedModel, name: str) -> Iterator[TimedLine]:
    for line in pull_lines(state, model):
        if b'"success"' not in line.data:
            yield line
    install(state, model, name)


def _derived(parent: SimulatedModel, body: Mapping[str, Any], source: str) -> SimulatedModel:
    """Make the new model.

    Raises:
        Refusal: Its template or quantization is wrong.
    """
    changes: dict[str, Any] = {}
    if template := as_text(body.get("template")):
        if re.search(r"\{\{(?:(?!\}\}).)*$", template, re.DOTALL):
            raise Refusal(400, "template error: template: :1: unclosed action")
        changes["template"] = template
    if quantize := as_text(body.get("quantize")).upper():
        if quantize not in _QUANTIZATIONS:
            supported = ", ".join(_QUANTIZATIONS)
            raise Refusal(500, f"unsupported quantization type {quantize} - supported types are {supported}")
        changes["quantization_level"] = quantize
    if system := as_text(body.get("system")):
        changes["system"] = system
    if given := body.get("license"):
        changes["license"] = [given] if isinstance(given, str) else [as_text(text) for text in as_list(given)]
    if messages := as_list(body.get("messages")):
        changes["messages"] = [as_object(message) for message in messages]
    if parameters := as_object(body.get("parameters")):
        changes["parameters"] = {**parent.parameters, **parameters}
    if source:
        changes["parent_model"] = parent.full_name
    return replace(parent, **changes)


def _created(state: State, lines: list[TimedLine] | Iterator[TimedLine], model: SimulatedModel) -> Iterator[TimedLine]:
    yield from lines
    known = installed_digests(state.catalogue)
    for layer in layers_of(model):
        yield status(f"{'using existing' if layer.digest in known else 'creating new'} layer {layer.digest}")
    yield status("writing manifest")
    yield status("success")


def _refused_late(exchange: Exchange, refusal: Refusal) -> Outgoing:
    """Refuse after the work began: another content type, and no length where lines were to come."""
    body = encode({"error": refusal.message})
    given = exchange.recorded.body
    if isinstance(given, dict) and given.get("stream") is False:  # pyright: ignore[reportUnknownMemberType]
        return plain(body, status=refusal.status, content_type=JSON)
    return Outgoing(status=refusal.status, content_type=JSON, lines=[body])
