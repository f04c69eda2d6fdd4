"""Tokens are estimated, and better so once replies have told of some."""

import pytest

from griptape_ollama.conversion.embeddings import Passage
from griptape_ollama.conversion.passages import likely_tokens
from griptape_ollama.embeddings.density import TokenDensity
from griptape_ollama.testing import Reply

_PROSE = "The ferry runs until noon on most days of the year. " * 20


def test_without_replies_prose_is_estimated():
    assert TokenDensity().tokens(_PROSE) == likely_tokens(_PROSE)


def test_a_few_tokens_teach_nothing():
    density = TokenDensity()
    density.learn(10, 10)
    assert density.tokens(_PROSE) == likely_tokens(_PROSE)


def test_replies_teach_how_dense_the_texts_are():
    density = TokenDensity()
    density.learn(2000, 1000)
    assert density.tokens("x" * 1000) == 550
    assert density.is_likely_above("x" * 1000, 549)
    assert not density.is_likely_above("x" * 1000, 550)


def test_what_is_embedded_now_counts_more_than_what_was_long_ago():
    density = TokenDensity()
    for _ in range(20):
        density.learn(500_000, 100_000)
    for _ in range(20):
        density.learn(500_000, 500_000)
    assert density.tokens("x" * 1000) > 1000


def test_dense_texts_are_cut_without_a_refusal_once_their_density_is_known(embed, simulator):
    def answer(request):
        texts = request.body["input"]
        if any(len(text) > 512 for text in texts):  # a token per character
            return Reply(status=400, error="the input length exceeds the context length")
        tokens = sum(map(len, texts))
        return Reply(body={"embeddings": [[1.0, 0.0]] * len(texts), "prompt_eval_count": tokens})

    simulator.reply(answer, path="/api/embed", times=None)
    density = TokenDensity()
    embed([Passage("", "犬" * 300)], window=lambda _: 512, density=density)
    asked = len(simulator.requests)
    embed([Passage("", "犬" * 600), Passage("", "cat")], window=lambda _: 512, density=density)
    sent = [request.body["input"] for request in simulator.requests[asked:]]
    # The long text is asked for by itself, so that nothing else has to be asked for twice.
    assert [len(texts) for texts in sent] == [1, 1, 2]
    assert sent[0] == ["cat"]


@pytest.mark.parametrize("tokens", [True, -5, 10**400, 1.5, "9", None])
def test_a_count_that_no_text_has_teaches_nothing(embed, order, simulator, tokens):
    density = TokenDensity()
    density.learn(4000, 1000)
    before = density.tokens(_PROSE)
    simulator.reply(path="/api/embed", body={"embeddings": [[1.0, 0.0]], "prompt_eval_count": tokens})
    assert embed([Passage("", "a")], density=density) == [[1.0, 0.0]]
    assert density.tokens(_PROSE) == before


def test_a_count_beyond_belief_teaches_no_more_than_a_token_for_each_byte():
    density = TokenDensity()
    density.learn(1000, 10**18)
    assert density.tokens("x" * 1000) == 4400
