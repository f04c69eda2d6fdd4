"""What importing the package adds to importing what it stands on."""

import statistics
import subprocess
import sys

from benchmarks.tables import markdown

ROUNDS = 15
BASE = "import griptape.structures, ollama"
WHOLE = "import griptape.structures, ollama, griptape_ollama"
CLOCK = "import time; start = time.process_time(); {}; print(time.process_time() - start)"


def _seconds(code):
    out = subprocess.run([sys.executable, "-c", CLOCK.format(code)], capture_output=True, text=True, check=True)
    return float(out.stdout)


def table():
    _seconds(WHOLE)  # writes the bytecode
    pairs = [(_seconds(BASE), _seconds(WHOLE)) for _ in range(ROUNDS)]
    base, whole = (statistics.median(values) for values in zip(*pairs, strict=True))
    rows = [
        ("griptape.structures and ollama", f"{base * 1e3:.0f}", "1.00"),
        ("the same and griptape_ollama", f"{whole * 1e3:.0f}", f"{whole / base:.2f}"),
    ]
    return markdown(f"Importing (CPU time, median of {ROUNDS})", ("imported", "ms", "times the base"), rows)
