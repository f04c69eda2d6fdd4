"""What the planner saves, against plain keep_alive, and what it costs; on the simulator, in simulated seconds."""

import itertools
import logging
import statistics
import timeit
from concurrent import futures
from functools import cache

from griptape.structures import Pipeline, Workflow
from griptape.tasks import PromptTask

from benchmarks.tables import markdown
from griptape_ollama import ModelLifecycle, OllamaEmbeddingDriver, OllamaPromptDriver
from griptape_ollama.testing import OllamaSimulator, SimulatedModel

SCALE = 25
LOAD_SECONDS = 20
TOKENS = 10
TOKENS_PER_SECOND = 2
MODELS = [SimulatedModel(name=name, size=10**9, load_seconds=LOAD_SECONDS) for name in "abc"]
SEQUENCES = ("abab", "aabb", "abcabc")
DIAMOND = "abca"  # top, left and right at the same time, bottom
CAPACITIES = (1, 2, 3)
TOLERANCE = 1.05
POLICIES = {"default": None, "0": 0, "-1": -1}
ROUNDS = 7
SETTINGS = 1000


def _task(model, host, keep_alive):
    driver = OllamaPromptDriver(model=model, host=host, keep_alive=keep_alive)
    return PromptTask("Go on.", prompt_driver=driver)


def _structure(models, host, keep_alive, *, is_diamond=False):
    tasks = [_task(model, host, keep_alive) for model in models]
    if not is_diamond:
        return Pipeline(tasks=tasks, conversation_memory=None)
    top, *branches, bottom = tasks
    top.add_children(branches)
    bottom.add_parents(branches)
    return Workflow(tasks=tasks, conversation_memory=None)


def fewest_loads(models, capacity):
    """Try every choice, for models of one size that are used one after the other."""

    @cache
    def fewest(number, memory):
        if number == len(models):
            return 0
        if models[number] in memory:
            return fewest(number + 1, memory)
        grown = memory | {models[number]}
        if len(grown) <= capacity:
            return 1 + fewest(number + 1, grown)
        return 1 + min(fewest(number + 1, grown - {other}) for other in memory)

    return fewest(0, frozenset())


def _fewest(name, capacity):
    if name != "diamond":
        return fewest_loads(name, capacity)
    top, left, right, bottom = DIAMOND
    return min(fewest_loads((top, *branches, bottom), capacity) for branches in itertools.permutations((left, right)))


def _measured(name, capacity, keep_alive=None, **planning):
    """Run a structure on a server of its own; give simulated seconds and loads, as the server counts them."""
    simulator = OllamaSimulator(
        models=MODELS, max_loaded_models=capacity, tokens_per_second=TOKENS_PER_SECOND, time_scale=SCALE
    )
    with simulator:
        simulator.reply(text=[" on"] * TOKENS, times=None)
        is_diamond = name == "diamond"
        structure = _structure(DIAMOND if is_diamond else name, simulator.host, keep_alive, is_diamond=is_diamond)
        began = simulator.time
        if planning:
            with ModelLifecycle(structure, max_models=capacity, **planning):
                structure.run()
        else:
            structure.run()
        seconds = simulator.time - began
        loads = sum((request.outcome.load_seconds or 0) >= LOAD_SECONDS / 2 for request in simulator.requests)
    return seconds, loads


def _row(name, capacity):
    # All of them at the same time, since they mostly wait; the better of two runs, since the machine is shared.
    ways = [{"warm_ahead": False}, {"warm_ahead": True}, *({"keep_alive": value} for value in POLICIES.values())]
    with futures.ThreadPoolExecutor(len(ways)) as executor:
        runs = [list(executor.map(lambda way: _measured(name, capacity, **way), ways)) for _ in range(2)]
    (planned, planned_loads), (ahead, _), *others = map(min, *runs)
    plain = dict(zip(POLICIES, others, strict=True))
    best = min(seconds for seconds, _ in plain.values())
    is_good = planned <= best * TOLERANCE and (name == "diamond" or planned_loads == _fewest(name, capacity))
    title = name if name == "diamond" else " ".join(name.upper())
    return (
        title,
        capacity,
        _fewest(name, capacity),
        planned_loads,
        *(loads for _, loads in plain.values()),
        f"{planned:.0f}",
        f"{ahead:.0f}",
        *(f"{seconds:.0f}" for seconds, _ in plain.values()),
        "yes" if is_good else "NO",
    )


def _own_cost(models, capacity):
    """Milliseconds per task: planning, and the requests that it makes."""
    with OllamaSimulator(models=[SimulatedModel(name=name, size=10**9) for name in "abc"]) as simulator:
        simulator.reply("Yes.", times=None)
        pipeline = _structure(models, simulator.host, None)
        reports = []
        for _ in range(ROUNDS):
            with ModelLifecycle(pipeline, max_models=capacity) as lifecycle:
                pipeline.run()
            reports.append(lifecycle.report)
    return [
        statistics.median(getattr(report, name) / report.tasks * 1000 for report in reports)
        for name in ("planner_seconds", "request_seconds")
    ]


def _cost_of_settings():
    """Microseconds that a driver with other settings takes to make."""
    drivers = {
        "OllamaPromptDriver": OllamaPromptDriver(model="a", host="127.0.0.1:1", options={"num_ctx": 8192, "seed": 1}),
        "OllamaEmbeddingDriver": OllamaEmbeddingDriver(model="a", host="127.0.0.1:1", options={"num_ctx": 8192}),
    }
    rows = []
    for name, driver in drivers.items():
        assert driver.with_settings(keep_alive=0).connection is driver.connection
        timer = timeit.Timer(lambda driver=driver: driver.with_settings(keep_alive=0))
        micros = min(timer.repeat(ROUNDS, SETTINGS)) / SETTINGS * 1_000_000
        rows.append((f"`{name}.with_settings(keep_alive=0)`", f"{micros:.0f}", "1,000"))
    return rows


def table():
    logging.getLogger("griptape").setLevel(logging.CRITICAL)
    policies = [f"keep_alive {policy}" for policy in POLICIES]
    head = ("tasks", "models that fit", "fewest loads", "planner", *policies, "planner, s", "ahead, s")
    head += (*(f"{policy}, s" for policy in policies), "fewest loads and within 5% of the best")
    rows = [_row(name, capacity) for name in (*SEQUENCES, "diamond") for capacity in CAPACITIES]
    work = f"{TOKENS} tokens at {TOKENS_PER_SECOND} per second"
    times = markdown(
        f"Models in memory (loading takes {LOAD_SECONDS} s, a reply {work}; simulated seconds, the better of two runs)",
        head,
        rows,
    )
    costs = [
        (f"{len(models)} tasks, {what}", *(f"{value:.2f}" for value in _own_cost(models, capacity)), "1")
        for models, capacity, what in (
            ("ab" * 3, 3, "all fit"),
            ("ab" * 3, 1, "a load for each"),
            ("abc" * 16, 3, "all fit"),
            ("abc" * 16, 2, "two of three fit"),
        )
    ]
    cost = markdown(
        f"What the planner costs (ms per task, median of {ROUNDS} runs)",
        ("pipeline", "planning (processor)", "requests that it makes (waiting)", "target of planning, at most"),
        costs,
    )
    settings = markdown(
        f"What a driver for one task costs (µs, best of {ROUNDS} times {SETTINGS:,})",
        ("driver", "µs", "target, at most"),
        _cost_of_settings(),
    )
    return f"{times}\n\n{cost}\n\n{settings}"
