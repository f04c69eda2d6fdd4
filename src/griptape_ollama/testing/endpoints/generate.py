"""The generate endpoint: a prompt without a conversation."""

from dataclasses import replace
from typing import Any

from griptape_ollama.testing import validation
from griptape_ollama.testing.endpoints.chat import (
    GenerationRequest,
    build_prompt,
    check_generation,
    qualified_name,
    respond,
    think_levels,
)
from griptape_ollama.testing.models.load_settings import LoadSettings, load_settings_for
from griptape_ollama.testing.models.prompts import RenderedPrompt, fit_prompt, raw_prompt
from griptape_ollama.testing.models.simulated_model import InstalledModels, SimulatedModel
from griptape_ollama.testing.request_context import RequestContext
from griptape_ollama.testing.response_writer import PreparedResponse
from griptape_ollama.testing.script import ScriptEntry
from griptape_ollama.testing.wire_format import ErrorResponse, as_list, as_object, as_text


async def generate(context: RequestContext, entry: ScriptEntry | None) -> PreparedResponse:
    """Answer `POST /api/generate`."""
    body = validation.decode_body(context.recorded.raw, "GenerateRequest")
    state = context.state
    return await respond(context, entry, parse_generate_request(body, state.installed, state.context_length))


def parse_generate_request(body: dict[str, Any], installed: InstalledModels, default_window: int) -> GenerationRequest:
    """Check a generate request in the order in which the server does.

    Raises:
        ErrorResponse: The server rejects it.
    """
    validation.check_generate(body, think_levels(body, installed))
    keep_alive = validation.parse_keep_alive(body.get("keep_alive"))
    name = as_text(body.get("model"))
    model = installed.get(name)
    if model is None:
        raise ErrorResponse(404, f"model '{name}' not found")
    prompt = as_text(body.get("prompt"))
    load_settings = LoadSettings(context_length=default_window)
    request = GenerationRequest(
        body=body, model=model, keep_alive=keep_alive, load_settings=load_settings, is_generate=True
    )
    if not prompt and keep_alive == 0:
        return request
    if body.get("raw") is True and any(body.get(name) for name in ("template", "system", "context")):
        raise ErrorResponse(400, "raw mode does not support template, system, or context")
    _check_capabilities(body, model, name)
    validation.check_options(model.parameters)
    validation.check_options(as_object(body.get("options")))
    request = replace(request, load_settings=load_settings_for(model, body, default_window))
    if model.load_error is not None:
        raise ErrorResponse(500, model.load_error)
    if not prompt:
        return request
    context: list[int] = [token for token in as_list(body.get("context")) if isinstance(token, int)]
    is_raw = body.get("raw") is True
    return replace(request, prompt=_build_prompt(request, prompt, len(context)), context=None if is_raw else context)


def _build_prompt(request: GenerationRequest, text: str, before: int) -> RenderedPrompt:
    """Fit a prompt into the window, after the tokens of an earlier reply."""
    body, model = request.body, request.model
    if body.get("raw") is not True:
        prompt = build_prompt(replace(request, body={**body, "tools": None}), _messages(request, text))
        return replace(prompt, tokens=prompt.tokens + before, whole_tokens=prompt.whole_tokens + before)
    prompt = raw_prompt(text, as_list(body.get("images")), model)
    if body.get("_debug_render_only") is True:
        return prompt
    check_generation(request, prompt.messages)
    return fit_prompt(prompt, model, request.load_settings, body, is_chat=False)


def _messages(request: GenerationRequest, prompt: str) -> list[dict[str, Any]]:
    body = request.body
    message = {"role": "user", "content": prompt, "images": as_list(body.get("images"))}
    system = as_text(body.get("system")) or request.model.system
    return [*([{"role": "system", "content": system}] if system else []), message]


def _check_capabilities(body: dict[str, Any], model: SimulatedModel, name: str) -> None:
    if body.get("think") not in (None, False) and not model.can("thinking"):
        raise ErrorResponse(400, f'"{name}" does not support thinking')
    if not model.can("completion"):
        raise ErrorResponse(400, f'"{name}" does not support generate')
    if body.get("suffix") and not model.can("insert"):
        raise ErrorResponse(400, f"{qualified_name(model)} does not support insert")
