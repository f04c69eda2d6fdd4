"""Whether a model fits on the disk of a server on this machine."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from griptape_ollama import OllamaDiskError
from griptape_ollama.models import disk
from griptape_ollama.models.disk import DiskCheck, models_folder
from griptape_ollama.models.progress import ProgressMeter
from griptape_ollama.protocol.numbers import format_bytes
from griptape_ollama.testing import OllamaSimulator, SimulatedModel

MB = 1_000_000
BIG = SimulatedModel(name="big:8b", size=100 * MB, pull_bytes_per_second=10 * MB)
DIGEST = f"sha256:{BIG.weights_digest}"
LINE = {"status": "pulling", "digest": DIGEST, "total": 100 * MB}


@pytest.fixture
def simulator():
    with OllamaSimulator(library=[BIG], time_scale=2000) as simulator:
        yield simulator


@pytest.fixture
def free(monkeypatch):
    """Set the free space of every disk; return the folders that were read."""
    asked = []

    def let(size):
        def usage(folder):
            asked.append(folder)
            return SimpleNamespace(free=size)

        monkeypatch.setattr(disk.shutil, "disk_usage", usage)
        return asked

    return let


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path))
    return tmp_path


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home with a folder of models in which nothing lies."""
    monkeypatch.setenv("HOME", str(tmp_path))
    blobs = tmp_path / ".ollama" / "models" / "blobs"
    blobs.mkdir(parents=True)
    return blobs


def _look(host, line=LINE):
    meter = ProgressMeter("pull", "big:8b", host)
    meter.read(line)
    DiskCheck(host, "big:8b").check(line, meter)


def test_a_model_that_does_not_fit_is_an_error_before_its_bytes_are_moved(simulator, models, folder, free):
    free(90 * MB)
    seen = []
    with pytest.raises(OllamaDiskError, match=r"100 MB are missing of it, and .* has 90 MB free") as caught:
        models.pull("big:8b", on_progress=seen.append)
    assert (caught.value.bytes_needed, caught.value.bytes_free) == (100 * MB, 90 * MB)
    assert caught.value.model == "big:8b"
    assert all(each.completed == 0 for each in seen)
    assert simulator.wait_for_disconnect()
    assert "big:8b" not in simulator.models


def test_the_free_space_is_read_once_for_each_file(models, folder, free):
    asked = free(200 * MB)
    models.pull("big:8b")
    assert asked == [folder]  # the other files are so small that the server does not tell of them


def test_only_what_is_missing_has_to_fit(folder, free):
    free(50 * MB)
    _look("http://127.0.0.1:11434", {**LINE, "completed": 60 * MB})
    with pytest.raises(OllamaDiskError):
        _look("http://127.0.0.1:11434", {**LINE, "completed": 40 * MB})


def test_a_complete_file_is_not_checked(folder, free):
    asked = free(0)
    _look("http://127.0.0.1:11434", {**LINE, "completed": 100 * MB})
    assert asked == []


def test_the_disk_of_another_machine_is_not_checked(folder, free):
    asked = free(0)
    _look("http://gpu-box:11434")
    assert asked == []


def test_lines_about_no_file_are_passed_over(folder, free):
    asked = free(0)
    for line in ({"status": "pulling manifest"}, {"status": "pulling", "digest": DIGEST}, {"digest": 7, "total": 7}):
        _look("http://127.0.0.1:11434", line)
    assert asked == []


def test_a_disk_that_cannot_be_read_does_not_fail_the_pull(folder, monkeypatch):
    def fail(_):
        raise PermissionError

    monkeypatch.setattr(shutil, "disk_usage", fail)
    _look("http://127.0.0.1:11434")


def test_a_usual_folder_counts_if_the_file_lies_in_it(home, free):
    asked = free(0)
    _look("http://127.0.0.1:11434")
    assert asked == []
    (home / f"{DIGEST.replace(':', '-')}-partial-0").touch()
    with pytest.raises(OllamaDiskError):
        _look("http://127.0.0.1:11434")
    assert asked == [home.parent]


def test_a_named_folder_that_is_not_here_is_another_machines(monkeypatch, tmp_path, home):
    (home / f"{DIGEST.replace(':', '-')}-partial").touch()
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "nowhere"))
    assert models_folder(DIGEST) is None


def test_folders_that_cannot_be_read_are_passed_over(home, monkeypatch):
    def fail(*_):
        raise PermissionError

    monkeypatch.setattr(Path, "glob", fail)
    assert models_folder(DIGEST) is None


def test_a_user_without_a_home_has_no_folder(monkeypatch):
    def fail(_):
        raise RuntimeError

    monkeypatch.setattr(Path, "expanduser", fail)
    assert models_folder(DIGEST) is None


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1500, "1.5 kB"),
        (999_499, "999 kB"),
        (999_500, "1 MB"),
        (28_800_000, "28.8 MB"),
        (4.7e9, "4.7 GB"),
        (1.5e15, "1500 TB"),
    ],
)
def test_sizes_are_written_in_powers_of_1000(size, text):
    assert format_bytes(size) == text
