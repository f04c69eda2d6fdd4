"""What is said of the window."""

from dataclasses import dataclass

import pytest

from griptape_ollama.context.overflow import WindowSettings
from griptape_ollama.context.tokens.regression import TokenEstimate
from griptape_ollama.context.trimming import trim
from griptape_ollama.context.truncation import ContextReporter, Exchanged, Finding


@dataclass(frozen=True)
class Window:
    tokens: int = 4096
    ceiling: int = 8192
    is_known: bool = True


REPORTER = ContextReporter("qwen3", "http://gpu:11434", settings=WindowSettings(model_limit=40_960))
EXCHANGED = Exchanged(TokenEstimate(45_000, 40_000, 50_000), 2051, 24, "stop")
FINDINGS = [
    Finding(kind, is_sure, cut_by)
    for is_sure in (True, False)
    for kind, cut_by in [
        ("truncated", None),
        ("shifted", None),
        ("cut", "max_tokens"),
        ("cut", "window"),
        ("cut", "unknown"),
    ]
]


@pytest.mark.parametrize("finding", FINDINGS, ids=str)
def test_a_finding_is_told_with_its_figures_and_what_to_do(finding):
    event = REPORTER.found(finding, EXCHANGED, Window())
    assert (event.kind, event.is_sure, event.cut_by) == (finding.kind, finding.is_sure, finding.cut_by)
    assert (event.estimated_tokens, event.prompt_tokens, event.output_tokens, event.window) == (45_000, 2051, 24, 4096)
    assert (event.model, event.host) == ("qwen3", "http://gpu:11434")
    assert event.text.count("odel 'qwen3' of Ollama at http://gpu:11434") == 1
    assert "raise " in event.text.lower()
    assert ("seems to have" in event.text) is not finding.is_sure


def test_a_cut_prompt_is_told_with_what_was_read():
    assert REPORTER.found(FINDINGS[0], EXCHANGED, Window()).text == (
        "The prompt for model 'qwen3' of Ollama at http://gpu:11434 was cut: of about 45000 tokens (40000 to 50000) "
        "the model read 2051; its context window has 4096. Shorten the prompt, raise max_num_ctx above 8192 (the model "
        "takes up to 40960), set on_overflow='trim' to drop the oldest turns, or use a model with a longer context."
    )


def test_counts_that_the_server_does_not_tell_are_not_made_up():
    uncounted = Exchanged(EXCHANGED.estimate, None, None, "length")
    for finding in FINDINGS:
        assert "None" not in REPORTER.found(finding, uncounted, Window()).text


def test_growth_is_told_with_its_reason():
    event = REPORTER.grown(Window(8192), 4096, 5000)
    assert (event.kind, event.window_before, event.window) == ("grown", 4096, 8192)
    assert "from 4096 to 8192 tokens" in event.text
    assert "5000" in event.text
    assert "model 'qwen3' of Ollama at http://gpu:11434" in event.text


def test_what_was_not_sent_is_told():
    messages = [{"role": role, "content": "Hm."} for role in ("user", "assistant", "user")]
    event = REPORTER.trimmed(trim(messages, [40, 60, 30], budget=100), Window())
    assert (event.kind, event.dropped_messages, event.dropped_tokens, event.estimated_tokens) == ("trimmed", 2, 100, 30)
    assert "oldest 2 messages (about 100 tokens)" in event.text
    assert "model 'qwen3' of Ollama at http://gpu:11434" in event.text
    assert "on_overflow" not in event.text
