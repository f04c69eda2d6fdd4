"""What a preview shows to people."""

import pytest

from griptape_ollama.context.preview import PromptPreview
from griptape_ollama.context.tokens.regression import TokenEstimate
from griptape_ollama.context.window import ContextWindow

UNFIT = "prompt and reply probably do not fit into the window"


def _preview(tokens, **more):
    return PromptPreview(
        request={"model": "qwen3", "messages": [{"role": "user", "content": "Hello!"}]},
        estimate=TokenEstimate(tokens, round(tokens * 0.7), round(tokens * 1.3)),
        window=ContextWindow(8192, 8192, 8192, grown_from=4096, is_known=True),
        reply_tokens=1024,
        **more,
    )


def test_it_is_shown_in_a_few_lines():
    assert str(_preview(7000)).splitlines() == [
        "1 messages and 0 tools for model 'qwen3'",
        "about 7000 tokens (4900 to 9100), 1024 for the reply",
        "window of 8192 tokens, grown from 4096; num_ctx: 8192; largest: 8192",
        "  user: Hello!",
    ]


@pytest.mark.parametrize(("tokens", "fits"), [(7168, True), (7169, False)])
def test_a_prompt_that_leaves_no_tokens_for_the_reply_is_shown_not_to_fit(tokens, fits):
    preview = _preview(tokens)
    assert preview.fits is fits
    assert (UNFIT in str(preview)) is not fits


def test_a_problem_is_shown_instead():
    preview = _preview(20_000, problem="It is too long.")
    assert not preview.fits
    assert "It is too long." in str(preview)
    assert UNFIT not in str(preview)
