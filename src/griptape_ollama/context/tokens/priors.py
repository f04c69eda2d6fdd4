"""What is known about templates and tokenizers before a model has answered.

The figures of the text features began as means and spreads of non-negative fits to six vocabularies (Qwen 3, Qwen 3.5,
Llama 3, Mistral 7B v0.3, Mistral Nemo, DeepSeek V3) on the texts that `benchmarks/token_estimates.py` learns from,
spreads a third wider, since there are more tokenizers than six; they were rounded, and some moved by hand to where
estimates are less off after ten replies. Scripts that those texts do not hold were counted in a few sentences each,
with the same vocabularies.
"""

from __future__ import annotations

from griptape_ollama.context.tokens.features import TEXT_FEATURES
from griptape_ollama.context.tokens.regression import Prior

PROMPT_PRIORS = (
    # The beginning of the text and of the answer.
    Prior("prompts", 5.0, 5.0, 5_000.0),
    # ChatML has 5 around each message, Llama 3 5, Mistral 2, the simulator 4.
    Prior("messages", 4.5, 2.0, 60.0),
    # What templates say about how tools are called: nothing (Mistral) to 150 tokens (Qwen 3).
    Prior("tool_sets", 60.0, 60.0, 2_000.0),
    Prior("tools", 10.0, 15.0, 500.0),
    # The model's own system prompt then counts: none for most, 20 to 30 tokens for some, any size for a user's own.
    # With a wider spread it takes up what long texts are off, and short prompts are off for it.
    Prior("without_system", 5.0, 10.0, 5_000.0),
    # What the server itself counts for an image when it decides what to cut (0.33); models have 64 to 2,900.
    Prior("images", 768.0, 600.0, 20_000.0),
    # Marks around a call and around its result.
    Prior("calls", 8.0, 5.0, 100.0),
)
"""Of what surrounds the texts of a prompt."""

_TEXT = {
    "words": (0.70, 0.20, 4.0),
    "letters": (0.01, 0.015, 2.0),
    "long_words": (0.16, 0.14, 8.0),
    "case_changes": (0.65, 0.26, 4.0),
    "capitals": (0.28, 0.20, 3.0),
    "joined_words": (0.25, 0.20, 2.0),
    "digit_groups": (1.15, 0.25, 3.0),
    # A token each (Qwen, Mistral), or none of their own, up to three being one (Llama 3, DeepSeek).
    "more_digits": (0.45, 0.80, 2.0),
    "punctuation": (0.25, 0.10, 2.0),
    "rules": (0.4, 0.5, 8.0),
    "punctuation_runs": (0.58, 0.22, 3.0),
    "line_breaks": (1.35, 0.47, 4.0),
    "line_ends": (0.60, 0.62, 4.0),
    "wide_blanks": (0.60, 0.25, 3.0),
    "blanks": (0.27, 0.24, 2.0),
    "lone_blanks": (0.15, 0.18, 2.0),
    "controls": (1.0, 0.3, 4.0),
    "accents": (0.7, 0.35, 4.0),
    "alphabets": (0.45, 0.22, 4.0),
    "abjads": (0.55, 0.35, 4.0),
    "abugidas": (0.7, 0.35, 4.0),
    "symbols": (0.75, 0.35, 4.0),
    "kana": (1.40, 1.00, 4.0),
    # 0.6 in vocabularies that were made for Chinese, up to 1.2 elsewhere.
    "ideographs": (0.66, 0.28, 4.0),
    "hangul": (0.8, 0.4, 4.0),
    "wide": (1.50, 0.45, 4.0),
    "astral": (2.5, 1.0, 8.0),
}

TEXT_PRIORS = tuple(Prior(name, *_TEXT[name], common=0.1) for name in TEXT_FEATURES)
"""Of TEXT_FEATURES."""

TEXT_WEIGHTS = tuple(prior.mean for prior in TEXT_PRIORS)
"""Tokens of one of each text feature in most vocabularies."""

# What is written with each of its bytes has as many tokens: a word has the blank before it.
_BYTES = {
    **dict.fromkeys(("words", "letters", "digit_groups", "more_digits", "punctuation", "line_ends", "controls"), 1.0),
    "rules": 8.0,
    "line_breaks": 1.2,
    "lone_blanks": 1.0,
    "blanks": 1.0,
    "wide_blanks": 3.0,
    **dict.fromkeys(("accents", "alphabets", "abjads"), 2.0),
    **dict.fromkeys(("abugidas", "symbols", "kana", "ideographs", "hangul", "wide"), 3.0),
    "astral": 4.0,
}

BYTE_PRIORS = tuple(
    Prior(name, _BYTES.get(name, 0.0), 0.1 + 0.1 * _BYTES.get(name, 0.0), _TEXT[name][2], common=0.05)
    for name in TEXT_FEATURES
)
"""Of TEXT_FEATURES in a vocabulary of hardly more than single characters, as small models for tests have."""

OWN_COUNT_PRIORS = (Prior("own_count", 1.0, 0.15, 10.0),)
"""Of the counts of the user's tokenizer, which is nearly always the model's."""

TYPICAL = (
    "The report covers three weeks in May. Most of the work went into the new pump, which was delivered late and had "
    "to be adjusted twice; the second time, on May 17, it ran for nine hours without a fault. Two parts are still "
    "missing, and it is not known yet who will pay for them. Please send your questions to the office before Friday. "
) * 4
"""The uncertainty of an estimator that has learned nothing is that of this text."""
