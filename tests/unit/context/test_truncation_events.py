"""Events about the context window."""

import pytest

from griptape_ollama.context.overflow import OverflowPolicy
from griptape_ollama.context.tokens.regression import TokenEstimate
from griptape_ollama.context.trimming import trim
from griptape_ollama.context.truncation import ContextFinding, ContextReporter, TokenCounts
from griptape_ollama.context.window import ContextWindow

WINDOW = ContextWindow(None, 4096, 8192, is_known=True)
REPORTER = ContextReporter(OverflowPolicy("warn", "qwen3", "http://gpu:11434", model_limit=40_960))
COUNTS = TokenCounts(TokenEstimate(45_000, 40_000, 50_000), 2051, 24, "stop")
FINDINGS = [
    ContextFinding(kind, is_sure, cut_by)
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
def test_the_event_of_a_finding_has_its_figures_and_what_to_do(finding):
    event = REPORTER.found(finding, COUNTS, WINDOW)
    assert (event.kind, event.is_sure, event.cut_by) == (finding.kind, finding.is_sure, finding.cut_by)
    assert (event.estimated_tokens, event.prompt_tokens, event.output_tokens, event.window) == (45_000, 2051, 24, 4096)
    assert (event.model, event.host) == ("qwen3", "http://gpu:11434")
    assert event.text.count("odel 'qwen3' of Ollama at http://gpu:11434") == 1
    assert "raise " in event.text.lower()
    assert ("seems to have" in event.text) is not finding.is_sure


def test_the_event_of_a_truncated_prompt_has_the_tokens_that_were_read():
    assert REPORTER.found(FINDINGS[0], COUNTS, WINDOW).text == (
        "The prompt for model 'qwen3' of Ollama at http://gpu:11434 was cut: of about 45000 tokens (40000 to 50000) "
        "the model read 2051; its context window has 4096. Shorten the prompt, raise max_num_ctx above 8192 (the model "
        "takes up to 40960), set on_overflow='trim' to drop the oldest turns, or use a model with a longer context."
    )


def test_counts_that_the_server_left_out_are_not_invented():
    uncounted = TokenCounts(COUNTS.estimate, None, None, "length")
    for finding in FINDINGS:
        assert "None" not in REPORTER.found(finding, uncounted, WINDOW).text


def test_the_event_of_growth_has_its_reason():
    event = REPORTER.grown(ContextWindow(8192, 8192, 8192), 4096, 5000)
    assert (event.kind, event.window_before, event.window) == ("grown", 4096, 8192)
    assert "from 4096 to 8192 tokens" in event.text
    assert "5000" in event.text
    assert "model 'qwen3' of Ollama at http://gpu:11434" in event.text


def test_the_event_of_trimming_has_what_was_dropped():
    messages = [{"role": role, "content": "Hm."} for role in ("user", "assistant", "user")]
    event = REPORTER.trimmed(trim(messages, [40, 60, 30], budget=100), WINDOW)
    assert (event.kind, event.dropped_messages, event.dropped_tokens, event.estimated_tokens) == ("trimmed", 2, 100, 30)
    assert "oldest 2 messages (about 100 tokens)" in event.text
    assert "model 'qwen3' of Ollama at http://gpu:11434" in event.text
    assert "on_overflow" not in event.text
