"""How far token estimates are off, against the models' own tokenizers, and what counting costs.

A reply teaches the estimator what the server would have counted: ChatML with 8 tokens around a prompt and 5 around each
message. Texts that are estimated are never among those that were learned from.
"""

import random
import statistics
import time

from benchmarks.tables import markdown
from benchmarks.texts import KINDS, texts
from benchmarks.vocabularies import counters
from griptape_ollama.context.tokens.estimator import PromptEstimator

REPLIES, CONVERSATIONS = 10, 16
_TEMPLATE, _AROUND_MESSAGE = 8, 5


class Counted:
    """Texts with the tokens that a vocabulary has for them."""

    def __init__(self, count):
        self.halves = [
            {kind: [(text, count(text)) for text in found] for kind, found in texts(half).items()} for half in (0, 1)
        ]


def table():
    found, missing = counters()
    lines = [f"{name} is left out: {why}." for name, why in missing.items()]
    return "\n\n".join([*lines, *(_error_tables(found) if found else []), _cost_table()])


def _error_tables(found):
    counted = {name: Counted(count) for name, count in found.items()}
    first = [_row(name, each, "none") for name, each in counted.items()]
    same = [_row(name, each, "same") for name, each in counted.items()]
    turns = [_row(name, each, "turns") for name, each in counted.items()]
    every = [_row(name, each, "every") for name, each in counted.items()]
    head = ("vocabulary", *KINDS)
    off = "Token estimates: median / 95th percentile of how far they are off, in %"
    yield markdown(f"{off}, before any reply", head, first)
    yield markdown(f"{off}, after {REPLIES} replies about single texts of the same kind", head, same)
    yield markdown(f"{off}, after a conversation of {REPLIES} turns of the same kind", head, turns)
    yield markdown(f"{off}, after {REPLIES} replies, two of each kind", head, every)


def _row(name, counted, how):
    return name, *(_shown(list(_errors(counted, kind, how))) for kind in KINDS)


def _shown(errors):
    return f"{100 * statistics.median(errors):.1f} / {100 * statistics.quantiles(errors, n=20)[-1]:.1f}"


def _errors(counted, kind, how):
    learned, held = counted.halves
    for seed in range(CONVERSATIONS):
        chance = random.Random(seed)
        estimator = PromptEstimator()
        kinds = {"none": (), "every": KINDS * (REPLIES // len(KINDS))}.get(how, (kind,) * REPLIES)
        said = []
        for each in chance.sample(kinds, len(kinds)):
            said = [*(said if how == "turns" else ()), chance.choice(learned[each])]
            estimator.learn(_messages(said), (), _tokens(said))
            if how == "turns":
                said.append(chance.choice(learned[each]))  # what the model answers
        for text in chance.sample(held[kind], 40):
            yield abs(estimator.estimate(_messages([text])).tokens / _tokens([text]) - 1)


def _messages(said):
    return [
        {"role": "user" if place % 2 == 0 else "assistant", "content": text} for place, (text, _) in enumerate(said)
    ]


def _tokens(said):
    return _TEMPLATE + sum(_AROUND_MESSAGE + tokens for _, tokens in said)


def _cost_table():
    rows = []
    for kind, found in texts(0).items():
        text = "\n\n".join(found)
        fresh = [f"{text} {number}" for number in range(20)]
        short = [f"{each[:200]} {number}" for number in range(20) for each in found]
        estimator = PromptEstimator()
        rows.append(
            (
                kind,
                f"{_nanoseconds(estimator, fresh) / len(text):.1f}",
                f"{_nanoseconds(estimator, short) / 1000:.1f}",
                f"{_nanoseconds(estimator, short) / 1000:.2f}",
            )
        )
    head = ("texts", "ns per character", "µs per text of 200 characters", "µs for one that was counted before")
    return markdown("Counting tokens (CPU time, quickest quarter of the texts)", head, rows)


def _nanoseconds(estimator, found):
    """Return the time per text of the quickest quarter of all texts."""
    taken = []
    for text in found:
        start = time.thread_time_ns()
        estimator.text_tokens(text)
        taken.append(time.thread_time_ns() - start)
    return statistics.quantiles(taken, n=4)[0]
