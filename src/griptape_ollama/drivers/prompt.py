"""The prompt driver."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from contextvars import ContextVar
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
from griptape_ollama.conversion.replies import ReplyReader
from griptape_ollama.conversion.schemas import tell_schema
from griptape_ollama.conversion.text_calls import TextCallGate
from griptape_ollama.drivers.abilities import note_denial
from griptape_ollama.drivers.async_calls import AsyncPromptMixin
from griptape_ollama.drivers.chunks import ChunkPublisher, are_chunks_wanted
from griptape_ollama.drivers.exchange import Exchange, Plan, to_response_event
from griptape_ollama.drivers.holding import TaskHold
from griptape_ollama.drivers.observed_model import ObservedModel
from griptape_ollama.drivers.observing import observable_stream
from griptape_ollama.drivers.planning import PlanningPromptDriver
from griptape_ollama.models.facts import Facts
from griptape_ollama.transport.call import Call
from griptape_ollama.transport.run import Run

_handed_over: ContextVar[Run | None] = ContextVar("handed_over_run", default=None)


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
            with _handing_over(run):
                self.before_run(stack)
            if self.stream or are_chunks_wanted():
                message = self._run_streamed(stack, run)
            else:
                with _handing_over(run):
                    message = self.try_run(stack)
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
        with self._run_of_caller() as run:
            exchange = self._exchange(prompt_stack, run)
            for _ in exchange.deltas():
                pass
            return exchange.message()

    @observable_stream
    def try_stream(self, prompt_stack: PromptStack) -> Iterator[DeltaMessage]:
        """Answer a prompt piece by piece; the last delta carries the usage. Leaving early stops the generation.

        Raises:
            OllamaError: Any kind of it.
        """
        with self._tracked_run() as run:
            exchange = self._exchange(prompt_stack, run)
            with contextlib.closing(exchange.deltas()) as deltas:
                for delta in deltas:
                    if not isinstance(delta, ReasoningDeltaMessageContent):  # the framework knows no such content
                        yield DeltaMessage(content=delta)
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
            with _handing_over(run):
                self._init_structured_output(twin)
            fitting = self._plan(twin, run, Facts(self.connection, run), is_preview=True).fitting
            return PromptPreview.of(fitting, self._rendered(fitting.request, run) if render else None)

    def _rendered(self, request: dict[str, Any], run: Run) -> str | None:
        """Give the text that the server makes of a request; None where it cannot tell."""
        # Servers before 0.12 do not know the field: they answer, but with one token.
        options = {**request.get("options", {}), "num_predict": 1}
        asked = {**request, "options": options, "stream": False, "_debug_render_only": True}
        reply = Call(self.connection, "/api/chat", asked, run=run, policy=self.retrying()).document()
        Facts(self.connection, run).forget_loaded()  # it may have been loaded for this
        told: Any = reply.get("_debug_info")
        rendered = told.get("rendered_template") if isinstance(told, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return rendered if isinstance(rendered, str) else None

    def _run_of_caller(self) -> contextlib.AbstractContextManager[Run]:
        """Give the run that `run` handed over, or start one where this was called by itself."""
        run = _handed_over.get()
        _handed_over.set(None)
        return self._tracked_run() if run is None else contextlib.nullcontext(run)

    @observable
    def _run_streamed(self, stack: PromptStack, run: Run) -> Message:
        publish = ChunkPublisher().publish
        exchange = self._exchange(stack, run)
        with contextlib.closing(exchange.deltas()) as deltas:  # a listener may raise
            for delta in deltas:
                publish(delta)
        return exchange.message()

    def _exchange(self, stack: PromptStack, run: Run) -> Exchange:
        facts = Facts(self.connection, run)
        plan = self._plan(stack, run, facts)
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
                lambda request: Call(self.connection, "/api/chat", request, run=run, policy=self.retrying()),
                reader=reader,
                turns=self._turns,
                hold=TaskHold.of_task(self.connection, model) if plan.holds_model else None,
                refused=lambda refusal: note_denial(refusal, facts),
                observed=ObservedModel(facts, model, facts.show(model), self.connection),
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
        with self._run_of_caller() as run:
            if prompt_stack.output_schema is None and self._given_format() is None:
                return
            known = Facts(self.connection, run).show(self._asked_model())
        if (rule := self._told_rule(prompt_stack, known)) is not None:
            own = known.raw.get("system")
            tell_schema(prompt_stack, rule.told, own_system=own if isinstance(own, str) else "")
        elif self._strategy(known) == "tool":
            super()._init_structured_output(prompt_stack)


@contextlib.contextmanager
def _handing_over(run: Run) -> Generator[None, None, None]:
    """Let what is called here go on in a run; nothing of it stays behind, taken or not."""
    before = _handed_over.set(run)
    try:
        yield
    finally:
        _handed_over.reset(before)


def _tags(stack: PromptStack) -> set[str]:
    return {
        content.artifact.value.tag
        for message in stack.messages
        for content in message.content
        if isinstance(content, ActionCallMessageContent)
    }
