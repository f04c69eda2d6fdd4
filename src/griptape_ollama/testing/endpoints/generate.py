"""The generate endpoint: a prompt without a conversation."""

from dataclasses import replace
from typing import Any

from griptape_ollama.testing import validation
from griptape_ollama.testing.endpoints.chat import (
    SpokenRequest,
    answer,
    check_task,
    read_prompt,
    registry_name,
    think_levels,
)
from griptape_ollama.testing.models.load_settings import Runner, runner_for
from griptape_ollama.testing.models.prompts import Prompt, fit, raw_prompt
from griptape_ollama.testing.models.simulated_model import Catalogue, SimulatedModel
from griptape_ollama.testing.request_context import Exchange
from griptape_ollama.testing.response_writer import Outgoing
from griptape_ollama.testing.script import Entry
from griptape_ollama.testing.wire_format import Refusal, as_list, as_object, as_text


async def generate(exchange: Exchange, entry: Entry | None) -> Outgoing:
    """Answer `POST /api/generate`."""
    body = validation.decode_body(exchange.recorded.raw, "GenerateRequest")
    state = exchange.state
    return await answer(exchange, entry, accept_generate(body, state.catalogue, state.context_length))


def accept_generate(body: dict[str, Any], catalogue: Catalogue, default_window: int) -> SpokenRequest:
    """Check a generate request in the order in which the server does.

    Raises:
        Refusal: The server refuses it.
    """
    validation.check_generate(body, think_levels(body, catalogue))
    keep_alive = validation.keep_alive(body.get("keep_alive"))
    name = as_text(body.get("model"))
    model = catalogue.get(name)
    if model is None:
        raise Refusal(404, f"model '{name}' not found")
    prompt = as_text(body.get("prompt"))
    runner = Runner(context_length=default_window)
    request = SpokenRequest(body=body, model=model, keep_alive=keep_alive, runner=runner, is_generate=True)
    if not prompt and keep_alive == 0:
        return request
    if body.get("raw") is True and any(body.get(name) for name in ("template", "system", "context")):
        raise Refusal(400, "raw mode does not support template, system, or context")
    _check_capabilities(body, model, name)
    validation.check_options(model.parameters)
    validation.check_options(as_object(body.get("options")))
    request = replace(request, runner=runner_for(model, body, default_window))
    if model.load_error is not None:
        raise Refusal(500, model.load_error)
    if not prompt:
        return request
    context: list[int] = [token for token in as_list(body.get("context")) if isinstance(token, int)]
    is_raw = body.get("raw") is True
    return replace(request, prompt=_read(request, prompt, len(context)), context=None if is_raw else context)


def _read(request: SpokenRequest, text: str, before: int) -> Prompt:
    """Fit a prompt into the window, behind the tokens of an earlier reply."""
    body, model = request.body, request.model
    if body.get("raw") is not True:
        prompt = read_prompt(replace(request, body={**body, "tools": None}), _messages(request, text))
        return replace(prompt, tokens=prompt.tokens + before, whole_tokens=prompt.whole_tokens + before)
    prompt = raw_prompt(text, as_list(body.get("images")), model)
    if body.get("_debug_render_only") is True:
        return prompt
    check_task(request, prompt.messages)
    return fit(prompt, model, request.runner, body, is_chat=False)


def _messages(request: SpokenRequest, prompt: str) -> list[dict[str, Any]]:
    body = request.body
    message = {"role": "user", "content": prompt, "images": as_list(body.get("images"))}
    system = as_text(body.get("system")) or request.model.system
    return [*([{"role": "system", "content": system}] if system else []), message]


def _check_capabilities(body: dict[str, Any], model: SimulatedModel, name: str) -> None:
    if body.get("think") not in (None, False) and not model.can("thinking"):
        raise Refusal(400, f'"{name}" does not support thinking')
    if not model.can("completion"):
        raise Refusal(400, f'"{name}" does not support generate')
    if body.get("suffix") and not model.can("insert"):
        raise Refusal(400, f"{registry_name(model)} does not support insert")
