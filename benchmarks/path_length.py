"""How much of the package one prompt passes: distinct functions, and the modules that they are in.

The driver is warm, the server is the simulator in a process of its own. Comprehensions do not count: newer versions of
Python run them without a function.
"""

import contextlib
import subprocess
import sys
import threading
from pathlib import Path

from griptape.common import PromptStack
from griptape.events import EventBus, EventListener

import griptape_ollama
from benchmarks.tables import markdown
from griptape_ollama import OllamaPromptDriver

WARM_UP = 3
WANTED = (200, 40)
_PACKAGE = str(Path(griptape_ollama.__file__).parent)
_COMPREHENSIONS = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")


@contextlib.contextmanager
def _simulator():
    """Start the simulator in another process and return its address."""
    command = [sys.executable, "-m", "benchmarks.path_length", "--serve"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip()
    finally:
        process.communicate("\n", timeout=10)


def _serve():
    from griptape_ollama.testing import OllamaSimulator

    with OllamaSimulator() as simulator:
        print(simulator.url, flush=True)
        sys.stdin.readline()


def functions_of(work):
    """Return the functions of the package that a piece of work calls, on any thread: pairs of a file and a name."""
    called = set()

    def profile(frame, event, _):
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(_PACKAGE) and code.co_name not in _COMPREHENSIONS:
            called.add((code.co_filename, code.co_qualname if sys.version_info >= (3, 11) else code.co_firstlineno))

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return called


def measure(host, *, stream):
    """Return the functions that one warm prompt passes."""
    driver = OllamaPromptDriver(model="simulator", host=host, stream=stream)

    def ask():
        stack = PromptStack()
        stack.add_system_message("Be brief.")
        stack.add_user_message("What is the capital of France?")
        driver.run(stack)

    for _ in range(WARM_UP):
        ask()
    return functions_of(ask)


def table():
    listener = EventListener(lambda _: None)
    EventBus.add_event_listener(listener)
    with _simulator() as host:
        found = {"plain": measure(host, stream=False), "streamed": measure(host, stream=True)}
    EventBus.remove_event_listener(listener)
    found["either"] = found["plain"] | found["streamed"]
    rows = [(kind, len(functions), len({file for file, _ in functions}), *WANTED) for kind, functions in found.items()]
    head = ("prompt", "functions", "modules", "target of functions", "target of modules")
    return markdown("Functions and modules of the package that one warm prompt passes", head, rows)


def _list():
    """Print each function by its module, to see what could go."""
    with _simulator() as host:
        for file, name in sorted(measure(host, stream=True)):
            print(Path(file).relative_to(_PACKAGE), name)


if __name__ == "__main__":
    if "--serve" in sys.argv:
        _serve()
    elif "--list" in sys.argv:
        _list()
    else:
        print(table())
