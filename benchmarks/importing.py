"""What importing the package adds to importing what it stands on."""

import statistics
import subprocess
import sys

from benchmarks.tables import markdown

ROUNDS = 15
BASE = "import griptape.structures, ollama"
PACKAGE = f"{BASE}, griptape_ollama"
DRIVER = f"{BASE}; from griptape_ollama import OllamaPromptDriver"
ALL = f"{BASE}; from griptape_ollama import *"
CLOCK = "import time; start = time.process_time(); {}; print(time.process_time() - start)"


def _seconds(code):
    out = subprocess.run([sys.executable, "-c", CLOCK.format(code)], capture_output=True, text=True, check=True)
    return float(out.stdout)


def table():
    _seconds(ALL)  # writes the bytecode
    rounds = [[_seconds(code) for code in (BASE, PACKAGE, DRIVER, ALL)] for _ in range(ROUNDS)]
    base, package, driver, everything = (statistics.median(values) for values in zip(*rounds, strict=True))
    named = {
        "griptape.structures and ollama": base,
        "the same and griptape_ollama": package,
        "the same and OllamaPromptDriver": driver,
        "the same and every name of griptape_ollama": everything,
    }
    rows = [(name, f"{value * 1e3:.0f}", f"{value / base:.2f}") for name, value in named.items()]
    return markdown(f"Importing (CPU time, median of {ROUNDS})", ("imported", "ms", "times the base"), rows)
