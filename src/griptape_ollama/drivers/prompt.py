"""The prompt driver."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from typing import Any

from attrs import define
from griptape.artifacts import BaseArtifact
from griptape.common import (
    ActionCallMessageContent,
    DeltaMessage,
    Message,
    PromptStack,
    observable,
)
from griptape.events import EventBus

from griptape_ollama.context.preview import PromptPreview
from griptape_ollama.conversion.reasoning import ReasoningDeltaMessageContent, to_think_marks
from griptape_ollama.conversion.response_reader import META_KEY, ReplyReader
from griptape_ollama.conversion.schemas import tell_schema
from griptape_ollama.conversion.text_calls import TextCallGate
from griptape_ollama.drivers.async_calls import AsyncPromptMixin
from griptape_ollama.drivers.capabilities import note_denial
from griptape_ollama.drivers.chunks import ChunkPublisher, are_chunks_wanted
from griptape_ollama.drivers.completion import Exchange, Plan, to_response_event
from griptape_ollama.drivers.observed_model import ObservedModel
from griptape_ollama.drivers.overrides import HandOver, handed_over_to, is_overridden, with_retries
from griptape_ollama.drivers.request_builder import PlanningPromptDriver
from griptape_ollama.drivers.streamed_message import StreamedMessage, take_deltas, to_deltas, with_metadata
from griptape_ollama.drivers.task_lease import TaskHold
from griptape_ollama.drivers.tracing import observable_stream
from griptape_ollama.models.audit import record_call
from griptape_ollama.models.metadata_cache import ServerMetadata
from griptape_ollama.transport.call import Call
from griptape_ollama.transport.run import Run


@define(kw_only=True, slots=False)
class OllamaPromptDriver(AsyncPromptMixin, PlanningPromptDriver):
    """Answers prompts with a model served by Ollama.

    A request carries what is set and nothing else; `extra_params` win over fields, and `extra_params["options"]` over
    `options` over fields, key by key, at the time of the call.

    Its settings are those of `PlanningPromptDriver`, with those of the window (`ContextMixin`), of the model
    (`ModelUseMixin`) and of the server (`OllamaServerMixin`).
    """

    @observable(tags=["PromptDriver.run()"])
    def run(self, prompt_input: PromptStack | BaseArtifact) -> Message:
        """Answer a prompt, and publish events: start, chunks as they arrive if `stream`, response, finish.

        Raises:
            OllamaError: Any kind of it.
        """
        stack = PromptStack.from_artifact(prompt_input) if isinstance(prompt_input, BaseArtifact) else prompt_input
        with self._tracked_run() as run:
            self._model(run)
            hand = HandOver(self, run)
            with hand.offered():
                self.before_run(stack)
            message = self._answered(stack, hand)
            self.after_run(message)
            return message

    def after_run(self, result: Message) -> None:
        """Publish what the server told about the reply, then that the prompt is finished."""
        if (event := to_response_event(result)) is not None:
            EventBus.publish_event(event)
        super().after_run(result)

    @observable
    def try_run(self, prompt_stack: PromptStack) -> Message:
        """Answer a prompt without events.

        Raises:
            OllamaError: Any kind of it.
        """
        with self._hand_of_caller() as hand:
            exchange = self._exchange(prompt_stack, hand.run)
            for _ in exchange.deltas():
                pass
            return exchange.message()

    @observable_stream
    def try_stream(self, prompt_stack: PromptStack) -> Iterator[DeltaMessage]:
        """Answer a prompt piece by piece; the last delta carries the usage. Leaving early stops the generation.

        Raises:
            OllamaError: Any kind of it.
        """
        with self._hand_of_caller() as hand:
            exchange = self._exchange(prompt_stack, hand.run)
            with contextlib.closing(exchange.deltas()) as deltas:
                for delta in deltas:
                    if not isinstance(delta, ReasoningDeltaMessageContent):  # the framework knows no such content
                        yield DeltaMessage(content=delta)
                    elif hand.publish is not None:
                        hand.publish(delta)
            hand.metadata = exchange.message().content[0].artifact.meta[META_KEY]
            yield DeltaMessage(usage=exchange.usage())

    def preview(self, prompt_input: PromptStack | BaseArtifact, *, render: bool = False) -> PromptPreview:
        """Show what a prompt would be sent as, without asking the model and without changing anything.

        The server is asked for what it knows of the model. Where the prompt comes from a task, give its stack:
        `driver.preview(agent.task.prompt_stack)`.

        Args:
            prompt_input: The prompt.
            render: Whether the server is to show the text that it makes of the prompt by the model's template. It loads
                the model for that. Old servers cannot; then there is none.

        Raises:
            OllamaError: The prompt cannot be sent, for another reason than its length; or the server cannot be reached,
                with `render`.
        """
        stack = PromptStack.from_artifact(prompt_input) if isinstance(prompt_input, BaseArtifact) else prompt_input
        # What the structured output adds is added to a copy.
        messages = [
            Message(list(each.content), role=each.role) if each.is_system() else each for each in stack.messages
        ]
        twin = PromptStack(messages=messages, tools=list(stack.tools), output_schema=stack.output_schema)
        with self._tracked_run() as run:
            self._model(run)
            with HandOver(self, run).offered():
                self._init_structured_output(twin)
            fitting = self._plan(twin, run, ServerMetadata(self.connection, run), is_preview=True).fitting
            return PromptPreview.of(fitting, self._rendered(fitting.request, run) if render else None)

    def _rendered(self, request: dict[str, Any], run: Run) -> str | None:
        """Give the text that the server makes of a request; None where it cannot tell."""
        # Servers before 0.12 do not know the field: they answer, but with one token.
        options = {**request.get("options", {}), "num_predict": 1}
        asked = {**request, "options": options, "stream": False, "_debug_render_only": True}
        reply = Call(self.connection, "/api/chat", asked, run=run, policy=self.retrying()).document()
        ServerMetadata(self.connection, run).forget_loaded()  # it may have been loaded for this
        told: Any = reply.get("_debug_info")
        rendered = told.get("rendered_template") if isinstance(told, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return rendered if isinstance(rendered, str) else None

    def _hand_of_caller(self) -> contextlib.AbstractContextManager[HandOver]:
        """Take over the run of `run`, or start one where this was called by itself."""
        hand = handed_over_to(self)
        return self._own_hand() if hand is None else hand.taken()

    @contextlib.contextmanager
    def _own_hand(self) -> Generator[HandOver, None, None]:
        with self._tracked_run() as run:
            yield HandOver(self, run)

    def _answered(self, stack: PromptStack, hand: HandOver) -> Message:
        """Return the answer from the methods that Griptape's base class would call, where a subclass replaced them."""
        runs_own = not is_overridden(self, "try_run", _OWN)
        wants_chunks = self.stream or are_chunks_wanted()
        if wants_chunks and is_overridden(self, "try_stream", _OWN):
            return self._run_overridden_stream(stack, hand)
        if self.stream or (wants_chunks and runs_own):
            return self._run_streamed(stack, hand.run)
        if runs_own:
            with hand.offered():
                return self.try_run(stack)
        message = self._run_overridden(stack, hand)
        if wants_chunks:
            publish = ChunkPublisher().publish
            for delta in to_deltas(message):
                publish(delta)
        return message

    def _run_overridden(self, stack: PromptStack, hand: HandOver) -> Message:
        def work() -> Message:
            with hand.offered():
                return self.try_run(stack)

        return with_retries(self, work, hand.run)

    def _run_overridden_stream(self, stack: PromptStack, hand: HandOver) -> Message:
        streamed = StreamedMessage()

        def work() -> Message:
            nonlocal streamed
            streamed, hand.metadata = StreamedMessage(), None
            hand.publish = streamed.publish
            with hand.offered():
                deltas = self.try_stream(stack)
            take_deltas(deltas, streamed, hand)
            return with_metadata(streamed.message(), hand.metadata)

        return with_retries(self, work, hand.run, may_retry=lambda: not streamed.has_published)

    @observable
    def _run_streamed(self, stack: PromptStack, run: Run) -> Message:
        publish = ChunkPublisher().publish
        exchange = self._exchange(stack, run)
        with contextlib.closing(exchange.deltas()) as deltas:  # a listener may raise
            for delta in deltas:
                publish(delta)
        return exchange.message()

    def _exchange(self, stack: PromptStack, run: Run) -> Exchange:
        metadata = ServerMetadata(self.connection, run)
        plan = self._plan(stack, run, metadata)
        with contextlib.ExitStack() as stacked:
            stacked.callback(plan.watch.close)  # unless the exchange takes over
            model = plan.request["model"]
            reader = ReplyReader(
                tools=plan.offered,
                used_tags=_tags(stack),
                think_marks=to_think_marks(self.separate_think_tags),
                awaits_closing=plan.awaits_closing,
                new_gate=self._new_gate(plan),
            )
            exchange = Exchange(
                plan,
                lambda request: Call(
                    self.connection,
                    "/api/chat",
                    request,
                    run=run,
                    policy=self.retrying(),
                    listener=record_call if self.audit_requests else None,
                ),
                reader=reader,
                turns=self._turns,
                hold=TaskHold.of_task(self.connection, model) if plan.holds_model else None,
                refused=lambda refusal: note_denial(refusal, metadata),
                observed=ObservedModel(metadata, model, metadata.show(model), self.connection),
            )
            stacked.pop_all()
            return exchange

    def _new_gate(self, plan: Plan) -> Callable[[], TextCallGate] | None:
        """Return what makes a gate for text that may be a call; None where it never is."""
        tools, wanted = plan.offered, plan.wanted
        if not self.parse_text_calls or not tools:
            return None
        return lambda: TextCallGate(
            tools, lambda text: wanted is not None and wanted.rule.error_of(text.strip()) is None
        )

    def _init_structured_output(self, prompt_stack: PromptStack) -> None:
        with self._hand_of_caller() as hand:
            if prompt_stack.output_schema is None and self._given_format() is None:
                return
            known = ServerMetadata(self.connection, hand.run).show(self._asked_model())
        if (rule := self._told_rule(prompt_stack, known)) is not None:
            own = known.raw.get("system")
            tell_schema(prompt_stack, rule.told, own_system=own if isinstance(own, str) else "")
        elif self._strategy(known) == "tool":
            super()._init_structured_output(prompt_stack)


_OWN = {name: vars(OllamaPromptDriver)[name] for name in ("try_run", "try_stream")}


def _tags(stack: PromptStack) -> set[str]:
    return {
        content.artifact.value.tag
        for message in stack.messages
        for content in message.content
        if isinstance(content, ActionCallMessageContent)
    }
