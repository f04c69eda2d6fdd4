"""The endpoints that move whole models: pull, push, copy, delete."""

from collections.abc import Callable, Iterator, Mapping

from griptape_ollama.testing import validation
from griptape_ollama.testing.error_replies import Refusal
from griptape_ollama.testing.json_text import as_text, encode
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
