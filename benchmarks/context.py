"""What the context window costs: before a request leaves, over a long conversation, and for a short prompt."""

import gc
import itertools
import logging
import statistics
import time

from griptape.artifacts import TextArtifact
from griptape.common import PromptStack
from griptape.memory.structure import ConversationMemory, Run
from griptape.structures import Agent

from benchmarks.arrivals import running
from benchmarks.prose import sentences
from benchmarks.tables import markdown
from griptape_ollama import OllamaPromptDriver
from griptape_ollama.context.request_fitting import ContextSettings, ContextTracker, ConversationInfo, RequestFitter
from griptape_ollama.context.tokens.estimator import estimator_of
from griptape_ollama.models.metadata_cache import ServerMetadata
from griptape_ollama.shared_state import reset_shared_state
from griptape_ollama.testing import OllamaSimulator, SimulatedModel

RUNS = (100, 1_000, 10_000)
WANTED = {1_000: 100, 10_000: 1_000}
TRIES = 5
BUILT_IN_MOST = 1_000  # it takes minutes for ten times as many
BUILT_IN_TRIES = 1
TURNS = 200
TOKENS = 60  # of each question and of each answer
MOST_LOADS = 4
SHORT = 2_000


def _built_in(**settings):
    from griptape.drivers.prompt.ollama_prompt_driver import OllamaPromptDriver as BuiltIn

    return BuiltIn(**settings)


def _text(tokens, seed):
    """A text of about so many tokens, as the simulator counts them."""
    said = " ".join(itertools.islice(sentences(seed), tokens // 10))
    return f"{seed}: {said}"[: tokens * 4]


def _runs(count):
    return [Run(input=TextArtifact(_text(60, 2 * n)), output=TextArtifact(_text(60, 2 * n + 1))) for n in range(count)]


def _seconds(make_driver, runs, next_arrival, *, is_known):
    """Seconds from `run` to its chat's arrival at the server, and seconds of processor time of the whole run."""
    reset_shared_state()
    reset_shared_state()
    driver = make_driver()
    if is_known:
        Agent(prompt_driver=driver, conversation_memory=ConversationMemory(runs=list(runs))).run("And now?")
        next_arrival()
    agent = Agent(prompt_driver=driver, conversation_memory=ConversationMemory(runs=list(runs)))
    gc.collect()
    start, worked = time.monotonic(), time.process_time()
    agent.run("What comes next?")
    worked = time.process_time() - worked
    return next_arrival() - start, worked


def _before_leaving():
    rows = []
    with running() as (host, next_arrival):
        ways = {
            "griptape-ollama, texts it has not seen": (lambda: OllamaPromptDriver(model="bench", host=host), False),
            "griptape-ollama, in later turns": (lambda: OllamaPromptDriver(model="bench", host=host), True),
            "Griptape's built-in driver": (lambda: _built_in(model="bench", host=host), False),
        }
        for name, (make_driver, is_known) in ways.items():
            least = None
            for count in RUNS:
                is_built_in = name.startswith("Griptape's")
                if is_built_in and count > BUILT_IN_MOST:
                    rows.append((name, f"{count:,}", "not tried", "", "", ""))
                    continue
                runs = _runs(count)
                tries = BUILT_IN_TRIES if is_built_in else TRIES
                found = [_seconds(make_driver, runs, next_arrival, is_known=is_known) for _ in range(tries)]
                waited, worked = (1000 * min(seconds) for seconds in zip(*found, strict=True))
                least = least or worked / count
                wanted = f"under {WANTED[count]:,}" if count in WANTED and not is_built_in else ""
                share = f"{worked / count / least:.2f}"
                rows.append((name, f"{count:,}", f"{waited:,.0f}", f"{worked:,.0f}", share, wanted))
    title = (
        f"From `run` to the request's arrival, with a memory of runs of 120 tokens and a window of 32,768 (ms, best of "
        f"{TRIES})"
    )
    return markdown(
        title,
        (
            "driver",
            "runs",
            "until it arrives",
            "processor, reply included",
            "of it per run, times the shortest",
            "target",
        ),
        rows,
    )


def _exact(driver, simulator):
    """Ask for the window that the next prompt is going to need, to a token or so."""
    read = simulator.chats[-1].outcome.prompt_tokens if simulator.chats else 0
    driver.num_ctx = read + 2 * TOKENS + 1024


def _conversation(make_driver, *, before_turn=lambda driver, simulator: None, autoprune=True):
    """Hold a conversation with a simulated model, and give what the server counted."""
    model = SimulatedModel(name="bench", context_length=131_072)
    with OllamaSimulator(models=[model]) as simulator:
        simulator.reply(lambda request: _text(TOKENS, len(request.messages)), times=None)
        driver = make_driver(simulator.url)
        agent = Agent(prompt_driver=driver, conversation_memory=ConversationMemory(autoprune=autoprune))
        for turn in range(TURNS):
            before_turn(driver, simulator)
            agent.run(_text(TOKENS, 1000 + turn))
        outcomes = [chat.outcome for chat in simulator.chats]
        read = sum(outcome.prompt_tokens for outcome in outcomes)
        return {
            "loads": len(simulator.loads),
            "largest": max(load.context_length for load in simulator.loads),
            "cut": sum(outcome.was_truncated for outcome in outcomes),
            "kept": len(simulator.last_chat.messages) // 2 + 1,
            "read": read,
            "evaluated": simulator.evaluated_tokens / read,
        }


def _conversations():
    def ours(url):
        return OllamaPromptDriver(model="bench", host=url)

    def built_in(url):
        return _built_in(model="bench", host=url)

    found = {
        'griptape-ollama, `num_ctx="auto"`': _conversation(ours),
        "griptape-ollama, the exact size each time": _conversation(ours, before_turn=_exact, autoprune=False),
        "Griptape's built-in driver": _conversation(built_in),
        "the same, without pruning": _conversation(built_in, autoprune=False),
    }
    rows = [
        (
            name,
            each["loads"],
            f"{each['largest']:,}",
            each["cut"],
            f"{each['kept']} of {TURNS}",
            f"{each['read']:,}",
            f"{each['evaluated']:.0%}",
        )
        for name, each in found.items()
    ]
    rows.append(("target of the first", f"at most {MOST_LOADS}", "", 0, "", "", ""))
    head = ("driver", "loads", "largest window", "prompts cut", "turns in the last prompt", "tokens read", "evaluated")
    return markdown(f"A conversation of {TURNS} turns of {2 * TOKENS} tokens (simulator)", head, rows)


def _micros_of_handling(host):
    """Microseconds that a short prompt takes to be made to fit, and to be looked at when it was answered."""
    driver = OllamaPromptDriver(model="bench", host=host)
    metadata = ServerMetadata(driver.connection)
    known, estimator = metadata.show("bench"), estimator_of(driver.connection.base_url, "bench")
    line = {"done": True, "done_reason": "stop", "prompt_eval_count": 30, "eval_count": 2}
    texts = [f"Question {number}: {_text(20, number)}" for number in range(SHORT)]
    times = []
    for text in texts:
        request = {"model": "bench", "messages": [{"role": "user", "content": text}], "options": {"temperature": 0.1}}
        start = time.process_time()
        fitter = RequestFitter(metadata, known, estimator, ContextSettings())
        fitted = fitter.fit(request, ConversationInfo())
        tracker = ContextTracker(fitter, fitted)
        tracker.report_fit()
        tracker.record_start()
        tracker.record_end(fitted.request, line)
        tracker.metadata()
        times.append(time.process_time() - start)
    return statistics.median(times) * 1e6


def _micros_of_run(host, next_arrival):
    """Microseconds of processor time that the whole run of a short prompt takes."""
    driver = OllamaPromptDriver(model="bench", host=host)
    times = []
    for number in range(SHORT // 10):
        stack = PromptStack()
        stack.add_user_message(f"Question {number}: {_text(20, number)}")
        start = time.process_time()
        driver.run(stack)
        times.append(time.process_time() - start)
        next_arrival()
    return statistics.median(times) * 1e6


def _short_prompts():
    with running() as (host, next_arrival):
        whole, handling = _micros_of_run(host, next_arrival), _micros_of_handling(host)
    rows = [
        ("without", f"{whole - handling:.0f}", "1.00"),
        ("with", f"{whole:.0f}", f"{whole / (whole - handling):.2f}"),
        ("the window alone", f"{handling:.0f}", f"{handling / (whole - handling):.2f}"),
    ]
    title = (
        "A run of one short prompt, with and without the fitting of its window "
        f"(µs of processor time, median of {SHORT // 10})"
    )
    return markdown(title, ("", "µs", "times without"), rows)


def table():
    for name in ("griptape", "griptape_ollama"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return f"{_before_leaving()}\n\n{_conversations()}\n\n{_short_prompts()}"
