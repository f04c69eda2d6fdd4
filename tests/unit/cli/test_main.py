"""The command as a process: Ctrl-C, closed pipes, terminals that lack characters."""

import contextlib
import os
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner

from griptape_ollama.cli.main import main
from griptape_ollama.testing import OllamaSimulator, SimulatedModel

# A shell that runs the tests in the background makes them ignore Ctrl-C.
CODE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from griptape_ollama.cli.main import main
main(["models", *__import__("sys").argv[1:]], prog_name="griptape-ollama")
"""
FULL = b"Error: The system refused to read or write: [Errno 28] No space left on device.\n"
SLOW = SimulatedModel(name="slow", size=10**12, pull_bytes_per_second=10**6)
QUICK = SimulatedModel(name="quick", size=30_000_000, pull_bytes_per_second=60_000_000)
NAMES = [SimulatedModel(name=f"model-{number}", system="ähem … ahoy") for number in range(3)]


@pytest.fixture
def simulator():
    with OllamaSimulator(models=NAMES, library=[SLOW, QUICK]) as simulator:
        yield simulator


@pytest.fixture
def start(simulator):
    """Start the command on the simulator."""
    with contextlib.ExitStack() as cleanup:

        def start(*arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **environment):
            process = subprocess.Popen(
                [sys.executable, "-c", CODE, *arguments],
                stdout=stdout,
                stderr=stderr,
                env={**os.environ, "OLLAMA_HOST": simulator.host, **environment},
            )
            cleanup.callback(process.communicate)
            cleanup.callback(process.kill)
            return process

        yield start


def test_ctrl_c_ends_a_pull_with_130_and_a_hint_that_it_resumes(start, simulator):
    process = start("pull", "slow")
    while b"% of" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, b"")
    last = err.decode().splitlines()[-1]
    assert last == "Stopped. What was pulled is kept: the same command goes on from there."
    assert b"Traceback" not in err


def test_a_terminal_shows_a_bar_and_the_standard_output_only_the_result(start):
    pty = pytest.importorskip("pty")
    terminal, end = pty.openpty()
    process = start("pull", "quick", stderr=end, TERM="xterm", COLUMNS="100")
    os.close(end)
    shown = b""
    with contextlib.suppress(OSError):  # so Linux reports that the other end is closed
        while piece := os.read(terminal, 4096):
            shown += piece
    os.close(terminal)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert out.startswith(b"Pulled quick:latest: ")
    assert b"\x1b[" not in out
    assert b"pull quick \x1b[" in shown
    assert b"30.0/30.0" in shown
    assert b"% of" not in shown


def test_a_closed_pipe_is_no_traceback(start):
    read, write = os.pipe()
    os.close(read)
    process = start("list", stdout=write)
    os.close(write)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (1, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has it")  # noqa: PTH110  a device
def test_an_output_that_cannot_be_written_is_an_error_in_one_line(start):
    with open("/dev/full", "wb") as full:  # noqa: PTH123  a device
        process = start("list", stdout=full)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (1, FULL)


@pytest.mark.parametrize(("encoding", "shown"), [("latin-1", "ähem \\u2026 ahoy"), ("utf-8", "ähem … ahoy")])
def test_a_terminal_that_lacks_a_character_gets_an_escape(start, encoding, shown):
    process = start("show", "model-0", PYTHONIOENCODING=encoding)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, b"")
    assert f"System prompt     {shown}" in out.decode(encoding)


def test_the_command_names_its_version_and_its_commands():
    runner = CliRunner()
    assert "version 0." in runner.invoke(main, ["--version"]).output
    assert "simulate" in runner.invoke(main, ["--help"]).output
