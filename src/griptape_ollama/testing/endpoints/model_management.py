"""The endpoints that manage models: pull, push, copy, delete, create and the blobs that it reads."""

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
from griptape_ollama.testing.request_context import RequestContext, ServerState
from griptape_ollama.testing.response_writer import NDJSON, PreparedResponse, TimedLine, body_response
from griptape_ollama.testing.script import ScriptEntry
from griptape_ollama.testing.wire_format import ErrorResponse, as_list, as_object, as_text, encode

JSON = "application/json"
# Seconds between two progress lines.
_TICK = 0.06
_SHORT_DIGEST = slice(7, 19)


async def pull(context: RequestContext, _entry: ScriptEntry | None) -> PreparedResponse:
    """Answer `POST /api/pull`."""
    state = context.state
    body = validation.decode_request(context.recorded.raw, "PullRequest")
    name = as_text(body.get("model")) or as_text(body.get("name"))
    bare = name.split("://", 1)[-1]
    if not is_name(bare):
        raise ErrorResponse(400, "invalid model name")
    try:
        model = state.library.find(name, insecure=body.get("insecure") is True)
    except PullError as error:
        return await progress_response(context, [status_line("pulling manifest"), failure_line(str(error))])
    return await progress_response(context, pull_lines(state, model), lambda: install_model(state, model, bare))


async def push(context: RequestContext, _entry: ScriptEntry | None) -> PreparedResponse:
    """Answer `POST /api/push`: add the model to the registry, if there is one."""
    state = context.state
    body = validation.decode_request(context.recorded.raw, "PushRequest")
    name = as_text(body.get("model")) or as_text(body.get("name"))
    if not name:
        raise ErrorResponse(400, "model is required")
    model = state.installed.get(name) if is_name(name) else None
    lines = [status_line("retrieving manifest")]
    if model is None:
        lines.append(status_line("couldn't retrieve manifest"))
        path = f"/models/manifests/registry.ollama.ai/library/{with_tag(name).replace(':', '/')}"
        unqualified = f"unqualified name: registry.ollama.ai/library/{with_tag(name)}"
        lines.append(failure_line(f"open {path}: no such file or directory" if is_name(name) else unqualified))
        return await progress_response(context, lines)
    layers = layers_of(model)
    if not state.library.is_available:
        return await progress_response(context, [*lines, failure_line(push_error(model, layers[0].digest))])
    for layer in (*layers, config_of(model)):
        whole = {"digest": layer.digest, "total": layer.size}
        lines += [
            status_line(_layer_status("pushing", layer), whole),
            status_line(_layer_status("pushing", layer), {**whole, "completed": layer.size}),
        ]
    lines += [status_line("pushing manifest"), status_line("success")]
    return await progress_response(context, lines, lambda: state.library.add(model, state.clock.now_ns))


async def copy(context: RequestContext, _entry: ScriptEntry | None) -> PreparedResponse:
    """Answer `POST /api/copy`."""
    state = context.state
    body = validation.decode_request(context.recorded.raw, "CopyRequest")
    source, destination = as_text(body.get("source")), as_text(body.get("destination"))
    for label, name in (("source", source), ("destination", destination)):
        if not is_name(name):
            raise ErrorResponse(400, f'{label} "{name}" is invalid')
    model = state.installed.get(source)
    if model is None:
        raise ErrorResponse(404, f'model "{source}" not found')
    state.installed.add(model, destination, state.clock.now_ns)
    return PreparedResponse(content_type=None, length=0)


async def delete(context: RequestContext, _entry: ScriptEntry | None) -> PreparedResponse:
    """Answer `DELETE /api/delete`; a loaded model stays loaded until it expires, as on the real server."""
    body = validation.decode_request(context.recorded.raw, "DeleteRequest")
    name = as_text(body.get("model")) or as_text(body.get("name"))
    if not name:
        raise ErrorResponse(400, "model is required")
    if not is_name(name):
        raise ErrorResponse(400, f'name "{name}" is invalid')
    if context.state.installed.remove(name) is None:
        raise ErrorResponse(404, f"model '{name}' not found")
    return PreparedResponse(content_type=None, length=0)


def pull_lines(state: ServerState, model: SimulatedModel) -> Iterator[TimedLine]:
    """Yield the progress of a pull; files that are there already are not pulled again."""
    yield status_line("pulling manifest")
    present = installed_digests(state.installed)
    for layer in (*layers_of(model), config_of(model)):
        whole = {"digest": layer.digest, "total": layer.size}
        if layer.digest in present:
            yield status_line(_layer_status("pulling", layer), {**whole, "completed": layer.size})
            continue
        yield from _download_lines(state, model, layer)
    yield status_line("verifying sha256 digest")
    yield status_line("writing manifest")
    yield status_line("success")


async def progress_response(
    context: RequestContext, lines: "list[TimedLine] | Iterator[TimedLine]", at_end: Callable[[], None] | None = None
) -> PreparedResponse:
    """Build the response of a long task: its lines, or with `stream: false` the last of them.

    Args:
        context: Context of the request.
        lines: Lines of the task; one with an error is the last.
        at_end: Called when the task has succeeded.
    """
    body = context.recorded.body
    if not (isinstance(body, dict) and body.get("stream") is False):  # pyright: ignore[reportUnknownMemberType]
        return PreparedResponse(content_type=NDJSON, lines=lines, before_last=at_end)
    last = b""
    for line in lines:
        await context.state.clock.sleep(line.delay)
        last = line.data.rstrip(b"\n")
    has_failed = last.startswith(b'{"error"')
    if not has_failed and at_end is not None:
        at_end()
    return body_response(last, status=500 if has_failed else 200, content_type=JSON)


def install_model(state: ServerState, model: SimulatedModel, name: str) -> None:
    """Install a pulled model."""
    state.installed.add(model, name, state.clock.now_ns)


def status_line(text: str, fields: Mapping[str, object] | None = None, *, delay: float = 0) -> TimedLine:
    """Build a progress line."""
    return TimedLine(delay, encode({"status": text, **(fields or {})}) + b"\n")


def failure_line(text: str) -> TimedLine:
    """Build the line that reports that a task failed."""
    return TimedLine(0, encode({"error": text}) + b"\n")


def _download_lines(state: ServerState, model: SimulatedModel, layer: Layer) -> Iterator[TimedLine]:
    """Yield the progress of a file, from where an interrupted pull stopped."""
    speed = model.pull_bytes_per_second
    if speed is None:
        return
    whole = {"digest": layer.digest, "total": layer.size}
    done = state.downloads.get(layer.digest, 0)
    if layer.size - done > speed * _TICK:
        # The first line comes before the first byte, and a 0 is omitted.
        yield status_line(
            _layer_status("pulling", layer), {**whole, **({"completed": done} if done else {})}, delay=_TICK
        )
    while layer.size - done > speed * _TICK:
        done += int(speed * _TICK)
        state.downloads[layer.digest] = done
        yield status_line(_layer_status("pulling", layer), {**whole, "completed": done}, delay=_TICK)
    state.downloads.pop(layer.digest, None)


def _layer_status(verb: str, layer: Layer) -> str:
    return f"{verb} {layer.digest[_SHORT_DIGEST]}"


_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_QUANTIZATIONS = ("F32", "F16", "Q4_K_S", "Q4_K_M", "Q8_0")


async def create(context: RequestContext, _entry: ScriptEntry | None) -> PreparedResponse:
    """Answer `POST /api/create`."""
    state = context.state
    body = validation.decode_request(context.recorded.raw, "CreateRequest")
    name = as_text(body.get("model")) or as_text(body.get("name"))
    if not is_name(name):
        raise ErrorResponse(400, "invalid model name")
    files = as_object(body.get("files"))
    if any(path.startswith(("/", "..")) for path in files):
        raise ErrorResponse(400, "file path must be relative")
    try:
        lines, parent = _base_model(state, body, files)
        if parent is None:
            return await progress_response(context, lines)
        model = _derive_model(parent, body, as_text(body.get("from")))
    except ErrorResponse as error_response:
        return _late_error(context, error_response)
    return await progress_response(
        context, _create_lines(state, lines, model), lambda: state.installed.add(model, name, state.clock.now_ns)
    )


async def has_blob(context: RequestContext, _entry: ScriptEntry | None) -> PreparedResponse:
    """Answer `HEAD /api/blobs/<digest>`."""
    if _digest(context) not in context.state.blobs:
        raise ErrorResponse(404, f'blob "{context.detail}" not found')
    return PreparedResponse(content_type=None)


async def add_blob(context: RequestContext, _entry: ScriptEntry | None) -> PreparedResponse:
    """Answer `POST /api/blobs/<digest>`."""
    digest, blobs = _digest(context), context.state.blobs
    if digest in blobs:
        return PreparedResponse(content_type=None, length=0)
    found = f"sha256:{hashlib.sha256(context.recorded.raw).hexdigest()}"
    if found != digest:
        raise ErrorResponse(400, f'digest mismatch, expected "{digest}", got "{found}"')
    blobs[digest] = context.recorded.raw
    return PreparedResponse(status=201, content_type=None, length=0)


def _digest(context: RequestContext) -> str:
    if not _DIGEST.fullmatch(context.detail):
        raise ErrorResponse(400, "invalid digest format")
    return context.detail


def _base_model(
    state: ServerState, body: Mapping[str, Any], files: Mapping[str, Any]
) -> tuple[list[TimedLine] | Iterator[TimedLine], SimulatedModel | None]:
    """Return the first lines, and the model that the new one is derived from; None if the lines end in an error.

    Raises:
        ErrorResponse: There is no such model.
    """
    source = as_text(body.get("from"))
    if source:
        if not is_name(source):
            raise ErrorResponse(400, "invalid model name")
        if installed := state.installed.get(source):
            return [], installed
        try:
            pulled = state.library.find(source, insecure=True)
        except PullError as error:
            return [status_line("pulling manifest"), failure_line(str(error))], None
        return _pull_base(state, pulled, source), pulled
    if not files:
        raise ErrorResponse(400, "neither 'from' or 'files' was specified")
    path, digest = next(iter(files.items()))
    if not path.endswith(".gguf"):
        raise ErrorResponse(400, "unknown type")
    lines = [status_line("parsing GGUF")]
    blob = state.blobs.get(as_text(digest))
    if blob is None:
        where = f"/models/blobs/{as_text(digest).replace(':', '-')}"
        return [*lines, failure_line(f"open {where}: no such file or directory")], None
    if not blob.startswith(b"GGUF"):
        return [*lines, failure_line("supplied file was not in GGUF format")], None
    return lines, SimulatedModel(name="gguf", size=len(blob), weights=as_text(digest), capabilities=("completion",))


def _pull_base(state: ServerState, model: SimulatedModel, name: str) -> Iterator[TimedLine]:
    for line in pull_lines(state, model):
        if b'"success"' not in line.data:
            yield line
    install_model(state, model, name)


def _derive_model(parent: SimulatedModel, body: Mapping[str, Any], source: str) -> SimulatedModel:
    """Build the new model.

    Raises:
        ErrorResponse: Its template or quantization is wrong.
    """
    changes: dict[str, Any] = {}
    if template := as_text(body.get("template")):
        if re.search(r"\{\{(?:(?!\}\}).)*$", template, re.DOTALL):
            raise ErrorResponse(400, "template error: template: :1: unclosed action")
        changes["template"] = template
    if quantize := as_text(body.get("quantize")).upper():
        if quantize not in _QUANTIZATIONS:
            supported = ", ".join(_QUANTIZATIONS)
            raise ErrorResponse(500, f"unsupported quantization type {quantize} - supported types are {supported}")
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


def _create_lines(
    state: ServerState, lines: list[TimedLine] | Iterator[TimedLine], model: SimulatedModel
) -> Iterator[TimedLine]:
    yield from lines
    known = installed_digests(state.installed)
    for layer in layers_of(model):
        yield status_line(f"{'using existing' if layer.digest in known else 'creating new'} layer {layer.digest}")
    yield status_line("writing manifest")
    yield status_line("success")


def _late_error(context: RequestContext, error_response: ErrorResponse) -> PreparedResponse:
    """Build an error response after the work began: another content type, and no length where lines would come."""
    body = encode({"error": error_response.message})
    given = context.recorded.body
    if isinstance(given, dict) and given.get("stream") is False:  # pyright: ignore[reportUnknownMemberType]
        return body_response(body, status=error_response.status, content_type=JSON)
    return PreparedResponse(status=error_response.status, content_type=JSON, lines=[body])
