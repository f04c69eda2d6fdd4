"""The prompt driver."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from attrs import define
from griptape.artifacts import BaseArtifact
from griptape.common import ActionCallMessageContent, DeltaMessage, Message, PromptStack, observable
from griptape.events import EventBus

from griptape_ollama.context.preview import PromptPreview
from griptape_ollama.conversion.reasoning import ReasoningDeltaMessageContent, to_think_marks
from griptape_ollama.conversion.response_reader import META_KEY, ResponseReader
from griptape_ollama.conversion.schemas import add_schema_instruction
from griptape_ollama.conversion.text_calls import TextCallBuffer
from griptape_ollama.drivers.chunks import (
    ChunkPublisher,
    StreamedMessageBuilder,
    are_chunks_enabled,
    to_deltas,
    with_metadata,
)
from griptape_ollama.drivers.completion import Completion, PromptRequest, to_response_event
from griptape_ollama.drivers.mixins import THREAD_NAME
from griptape_ollama.drivers.prompt_settings import PromptDriverSettings
from griptape_ollama.drivers.request_builder import RequestBuilder
from griptape_ollama.drivers.structured_output import StructuredOutput, requested_format
from griptape_ollama.drivers.subclass_overrides import PromptRun, add_deltas, is_overridden, run_of_caller, with_retries
from griptape_ollama.drivers.tracing import observable_stream
from griptape_ollama.models.api import OllamaApi
from griptape_ollama.transport.async_bridge import BackgroundIterator, run_in_thread


@define(kw_only=True, slots=False)
class OllamaPromptDriver(PromptDriverSettings):
    """Answers prompts with a model served by Ollama.

    A request carries what is set and nothing else; `extra_params` win over fields, and `extra_params["options"]` over
    `options` over fields, key by key, at the time of the call.

    Its settings are those of `PromptDriverSettings`, with those of the model (`ModelMixin`) and of the server
    (`OllamaServerMixin`).
    """

    @observable(tags=["PromptDriver.run()"])
    def run(self, prompt_input: PromptStack | BaseArtifact) -> Message:
        """Answer a prompt, and publish events: start, chunks as they arrive if `stream`, response, finish.

        Raises:
            OllamaError: Any kind of it.
        """
        stack = _to_stack(prompt_input)
        with self._tracked_api() as api:
            self._resolve_model(api)
            prompt_run = PromptRun(self, api)
            with prompt_run.current():
                self.before_run(stack)
            message = self._answer(stack, prompt_run)
            self.after_run(message)
            return message

    async def arun(self, prompt_input: PromptStack | BaseArtifact) -> Message:
        """Answer a prompt, as `run` does. Cancelling the task stops the server.

        Events go to the listeners of the caller, in another thread.

        Raises:
            OllamaError: Any kind of it.
        """
        return await run_in_thread(functools.partial(self.run, prompt_input), name=THREAD_NAME, watch=self._watch)

    def astream(self, prompt_stack: PromptStack | BaseArtifact) -> BackgroundIterator[DeltaMessage]:
        """Answer a prompt piece by piece, as `try_stream` does: `async for delta in driver.astream(stack)`.

        No request is sent before the first piece is asked for. Leaving early, and cancelling the task, stops the
        server.

        Raises:
            OllamaError: Any kind of it, from the loop.
        """
        stack = _to_stack(prompt_stack)

        def work(put: Callable[[DeltaMessage], None]) -> None:
            for delta in self.try_stream(stack):
                put(delta)

        feed = BackgroundIterator(work, name=THREAD_NAME)
        self._watch(feed)
        return feed

    def after_run(self, result: Message) -> None:
        """Publish the measures of the reply, then that the prompt is finished."""
        if (event := to_response_event(result)) is not None:
            EventBus.publish_event(event)
        super().after_run(result)

    @observable
    def try_run(self, prompt_stack: PromptStack) -> Message:
        """Answer a prompt without events.

        Raises:
            OllamaError: Any kind of it.
        """
        with run_of_caller(self, self._tracked_api) as prompt_run:
            completion = self._completion(prompt_stack, prompt_run.api)
            for _ in completion.deltas():
                pass
            return completion.message()

    @observable_stream
    def try_stream(self, prompt_stack: PromptStack) -> Iterator[DeltaMessage]:
        """Answer a prompt piece by piece; the last delta carries the usage. Leaving early stops the generation.

        Raises:
            OllamaError: Any kind of it.
        """
        with run_of_caller(self, self._tracked_api) as prompt_run:
            completion = self._completion(prompt_stack, prompt_run.api)
            with contextlib.closing(completion.deltas()) as deltas:
                for delta in deltas:
                    if not isinstance(delta, ReasoningDeltaMessageContent):  # the framework knows no such content
                        yield DeltaMessage(content=delta)
                    elif prompt_run.publish is not None:
                        prompt_run.publish(delta)
            prompt_run.metadata = completion.message().content[0].artifact.meta[META_KEY]
            yield DeltaMessage(usage=completion.usage())

    def preview(self, prompt_input: PromptStack | BaseArtifact, *, render: bool = False) -> PromptPreview:
        """Show what a prompt would be sent as, without asking the model and without changing anything.

        The server is asked for the metadata of the model. Where the prompt comes from a task, pass its stack:
        `driver.preview(agent.task.prompt_stack)`.

        Args:
            prompt_input: The prompt.
            render: Whether to include the text that the server makes of the prompt by the model's template. The server
                loads the model for that. Servers that do not support it leave the text out.

        Raises:
            OllamaError: The prompt cannot be sent, for another reason than its length; or the server cannot be reached,
                with `render`.
        """
        stack = _to_stack(prompt_input)
        # Structured output adds to the system message of the copy.
        messages = [
            Message(list(each.content), role=each.role) if each.is_system() else each for each in stack.messages
        ]
        twin = PromptStack(messages=messages, tools=list(stack.tools), output_schema=stack.output_schema)
        with self._tracked_api() as api:
            self._resolve_model(api)
            with PromptRun(self, api).current():
                self._init_structured_output(twin)
            builder = self._request_builder(api)
            fitted = builder.preview(builder.draft(twin))
            return PromptPreview.of(fitted, self._rendered(fitted.request, api) if render else None)

    def _rendered(self, request: dict[str, Any], api: OllamaApi) -> str | None:
        """Return the text that the server makes of a request; None if it does not support that."""
        # Servers before 0.12 do not know the field: they answer, but with one token.
        options = {**request.get("options", {}), "num_predict": 1}
        body = {**request, "options": options, "stream": False, "_debug_render_only": True}
        reply = api.document("/api/chat", body)
        api.metadata.forget_loaded()  # it may have been loaded for this
        debug: Any = reply.get("_debug_info")
        rendered = debug.get("rendered_template") if isinstance(debug, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return rendered if isinstance(rendered, str) else None

    def _answer(self, stack: PromptStack, prompt_run: PromptRun) -> Message:
        """Return the answer from the methods that Griptape's base class would call, where a subclass replaced them."""
        has_own_run = is_overridden(self, "try_run", _OWN)
        publishes = self.stream or are_chunks_enabled()
        if publishes and is_overridden(self, "try_stream", _OWN):
            return self._run_overridden_stream(stack, prompt_run)
        if self.stream or (publishes and not has_own_run):
            return self._run_streamed(stack, prompt_run.api)
        if not has_own_run:
            with prompt_run.current():
                return self.try_run(stack)
        message = self._run_overridden(stack, prompt_run)
        if publishes:
            publish = ChunkPublisher().publish
            for delta in to_deltas(message):
                publish(delta)
        return message

    def _run_overridden(self, stack: PromptStack, prompt_run: PromptRun) -> Message:
        def work() -> Message:
            with prompt_run.current():
                return self.try_run(stack)

        return with_retries(self, work, prompt_run.api.run)

    def _run_overridden_stream(self, stack: PromptStack, prompt_run: PromptRun) -> Message:
        message = StreamedMessageBuilder()

        def work() -> Message:
            nonlocal message
            message, prompt_run.metadata = StreamedMessageBuilder(), None
            prompt_run.publish = message.publish
            with prompt_run.current():
                deltas = self.try_stream(stack)
            add_deltas(deltas, message, prompt_run)
            return with_metadata(message.build(), prompt_run.metadata)

        return with_retries(self, work, prompt_run.api.run, may_retry=lambda: not message.has_published)

    @observable
    def _run_streamed(self, stack: PromptStack, api: OllamaApi) -> Message:
        publish = ChunkPublisher().publish
        completion = self._completion(stack, api)
        with contextlib.closing(completion.deltas()) as deltas:  # a listener may raise
            for delta in deltas:
                publish(delta)
        return completion.message()

    def _completion(self, stack: PromptStack, api: OllamaApi) -> Completion:
        builder = self._request_builder(api)
        draft = builder.draft(stack)
        api.run.check()
        self._ensure_model(draft.request["model"], api)
        request = builder.build(draft)
        try:
            reader = ResponseReader(
                tools=request.offered,
                used_tags=_tags(stack),
                think_marks=to_think_marks(self.separate_think_tags),
                awaits_closing=request.awaits_closing,
                new_call_buffer=self._new_call_buffer(request),
            )
            return Completion(request, api, reader=reader, tool_history=self._tool_history)
        except BaseException:
            request.tracker.close()
            raise

    def _request_builder(self, api: OllamaApi) -> RequestBuilder:
        return RequestBuilder(
            self,
            api,
            model=self._requested_model() or self._resolve_model(api),
            options=self._requested_options(),
            estimator=self._estimator(api.connection),
            context=self._context_settings(),
            tool_history=self._tool_history,
        )

    def _new_call_buffer(self, request: PromptRequest) -> Callable[[], TextCallBuffer] | None:
        """Return what builds a gate for text that may be a call; None if text is never a call."""
        tools, expected = request.offered, request.expected
        if not self.parse_text_calls or not tools:
            return None
        return lambda: TextCallBuffer(
            tools, lambda text: expected is not None and expected.rule.error_of(text.strip()) is None
        )

    def _init_structured_output(self, prompt_stack: PromptStack) -> None:
        if prompt_stack.output_schema is None and requested_format(self) is None:
            return
        with run_of_caller(self, self._tracked_api) as prompt_run:
            known = prompt_run.api.metadata.show(self._requested_model())
        output = StructuredOutput(self, known, self._requested_model())
        if (rule := output.described_rule(prompt_stack)) is not None:
            own = known.raw.get("system")
            add_schema_instruction(prompt_stack, rule.schema, own_system=own if isinstance(own, str) else "")
        elif output.strategy == "tool":
            super()._init_structured_output(prompt_stack)


_OWN = {name: vars(OllamaPromptDriver)[name] for name in ("try_run", "try_stream")}


def _to_stack(prompt_input: PromptStack | BaseArtifact) -> PromptStack:
    return PromptStack.from_artifact(prompt_input) if isinstance(prompt_input, BaseArtifact) else prompt_input


def _tags(stack: PromptStack) -> set[str]:
    return {
        content.artifact.value.tag
        for message in stack.messages
        for content in message.content
        if isinstance(content, ActionCallMessageContent)
    }
