"""The endpoints that move whole models: pull, push, copy, delete."""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from griptape_ollama.testing import validation
from griptape_ollama.testing.models.registry import (
    Layer,
    PullError,
    config_of,
    installed_digests,
    layers_of,
    push_error,
)
from griptape_ollama.testing.models.simulated_model import SimulatedModel, is_name, with_tag
from griptape_ollama.testing.request_context import Exchange, State
from griptape_ollama.testing.response_writer import NDJSON, Outgoing, TimedLine, plain
from griptape_ollama.testing.script import Entry
from griptape_ollama.testing.wire_format import Refusal, as_list, as_object, as_text, encode

JSON = "application/json"
# A server says this often how far it is, in seconds.
_TICK = 0.06
_SHORT_DIGEST = slice(7, 19)


async def pull(exchange: Exchange, _entry: Entry | None) -> Outgoing:
    """Answer `POST /api/pull`."""
    state = exchange.state
    body = validation.decode(exchange.recorded.raw, "PullRequest")
    name = as_text(body.get("model")) or as_text(body.get("name"))
    bare = name.split("://", 1)[-1]
    if not is_name(bare):
        raise Refusal(400, "invalid model name")
    try:
        model = state.library.find(name, insecure=body.get("insecure") is True)
    except PullError as error:
        return await report(exchange, [status("pulling manifest"), failure(str(error))])
    return await report(exchange, pull_lines(state, model), lambda: install(state, model, bare))


async def push(exchange: Exchange, _entry: Entry | None) -> Outgoing:
    """Answer `POST /api/push`: the library takes the model, if there is one."""
    state = exchange.state
    body = validation.decode(exchange.recorded.raw, "PushRequest")
    name = as_text(body.get("model")) or as_text(body.get("name"))
    if not name:
        raise Refusal(400, "model is required")
    model = state.catalogue.get(name) if is_name(name) else None
    lines = [status("retrieving manifest")]
    if model is None:
        lines.append(status("couldn't retrieve manifest"))
        path = f"/models/manifests/registry.ollama.ai/library/{with_tag(name).replace(':', '/')}"
        unqualified = f"unqualified name: registry.ollama.ai/library/{with_tag(name)}"
        lines.append(failure(f"open {path}: no such file or directory" if is_name(name) else unqualified))
        return await report(exchange, lines)
    layers = layers_of(model)
    if not state.library.is_there:
        return await report(exchange, [*lines, failure(push_error(model, layers[0].digest))])
    for layer in (*layers, config_of(model)):
        whole = {"digest": layer.digest, "total": layer.size}
        lines += [
            status(_title("pushing", layer), whole),
            status(_title("pushing", layer), {**whole, "completed": layer.size}),
        ]
    lines += [status("pushing manifest"), status("success")]
    return await report(exchange, lines, lambda: state.library.add(model, state.clock.now_ns))


async def copy(exchange: Exchange, _entry: Entry | None) -> Outgoing:
    """Answer `POST /api/copy`."""
    state = exchange.state
    body = validation.decode(exchange.recorded.raw, "CopyRequest")
    source, destination = as_text(body.get("source")), as_text(body.get("destination"))
    for label, name in (("source", source), ("destination", destination)):
        if not is_name(name):
            raise Refusal(400, f'{label} "{name}" is invalid')
    model = state.catalogue.get(source)
    if model is None:
        raise Refusal(404, f'model "{source}" not found')
    state.catalogue.add(model, destination, state.clock.now_ns)
    return Outgoing(content_type=None, length=0)


async def delete(exchange: Exchange, _entry: Entry | None) -> Outgoing:
    """Answer `DELETE /api/delete`; a model that is loaded stays so until its time is over, as on the real server."""
    body = validation.decode(exchange.recorded.raw, "DeleteRequest")
    name = as_text(body.get("model")) or as_text(body.get("name"))
    if not name:
        raise Refusal(400, "model is required")
    if not is_name(name):
        raise Refusal(400, f'name "{name}" is invalid')
    if exchange.state.catalogue.remove(name) is None:
        raise Refusal(404, f"model '{name}' not found")
    return Outgoing(content_type=None, length=0)


def pull_lines(state: State, model: SimulatedModel) -> Iterator[TimedLine]:
    """Say step by step how a model is pulled; what is there already is not pulled again."""
    yield status("pulling manifest")
    present = installed_digests(state.catalogue)
    for layer in (*layers_of(model), config_of(model)):
        whole = {"digest": layer.digest, "total": layer.size}
        if layer.digest in present:
            yield status(_title("pulling", layer), {**whole, "completed": layer.size})
            continue
        yield from _progress(state, model, layer)
    yield status("verifying sha256 digest")
    yield status("writing manifest")
    yield status("success")


async def report(
    exchange: Exchange, lines: "list[TimedLine] | Iterator[TimedLine]", at_end: Callable[[], None] | None = None
) -> Outgoing:
    """Make the response of a long task: its lines, or with `stream: false` the last of them once all have passed.

    Args:
        exchange: The request.
        lines: Lines of the task; one with an error is the last.
        at_end: Called when the task has succeeded.
    """
    body = exchange.recorded.body
    if not (isinstance(body, dict) and body.get("stream") is False):  # pyright: ignore[reportUnknownMemberType]
        return Outgoing(content_type=NDJSON, lines=lines, before_last=at_end)
    last = b""
    for line in lines:
        await exchange.state.clock.sleep(line.delay)
        last = line.data.rstrip(b"\n")
    has_failed = last.startswith(b'{"error"')
    if not has_failed and at_end is not None:
        at_end()
    return plain(last, status=500 if has_failed else 200, content_type=JSON)


def install(state: State, model: SimulatedModel, name: str) -> None:
    """Put a pulled model among the installed ones."""
    state.catalogue.add(model, name, state.clock.now_ns)


def status(text: str, fields: Mapping[str, object] | None = None, *, delay: float = 0) -> TimedLine:
    """Make a line that says how far a task is."""
    return TimedLine(delay, encode({"status": text, **(fields or {})}) + b"\n")


def failure(text: str) -> TimedLine:
    """Make the line that says that a task failed."""
    return TimedLine(0, encode({"error": text}) + b"\n")


def _progress(state: State, model: SimulatedModel, layer: Layer) -> Iterator[TimedLine]:
    """Pull a file, from where an interrupted pull had left it."""
    speed = model.pull_bytes_per_second
    if speed is None:
        return
    whole = {"digest": layer.digest, "total": layer.size}
    done = state.downloads.get(layer.digest, 0)
    if layer.size - done > speed * _TICK:
        # The first line comes before the first byte, and what is 0 is left out.
        yield status(_title("pulling", layer), {**whole, **({"completed": done} if done else {})}, delay=_TICK)
    while layer.size - done > speed * _TICK:
        done += int(speed * _TICK)
        state.downloads[layer.digest] = done
        yield status(_title("pulling", layer), {**whole, "completed": done}, delay=_TICK)
    state.downloads.pop(layer.digest, None)


def _title(verb: str, layer: Layer) -> str:
    return f"{verb} {layer.digest[_SHORT_DIGEST]}"


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
