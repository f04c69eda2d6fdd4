"""Adding up how far a transfer is."""

import math

import pytest

from griptape_ollama.events import OllamaProgressEvent
from griptape_ollama.models.progress import ProgressMeter


def _meter():
    return ProgressMeter("pull", "m", "http://gpu:11434")


def _fields(progress):
    subject = progress.action, progress.model, progress.host
    return *subject, progress.status, progress.digest, progress.completed, progress.total


def _event(completed, total):
    return OllamaProgressEvent(
        action="pull", model="m", host="http://gpu:11434", status="", completed=completed, total=total
    )


def _line(digest, total, completed=None):
    line = {"status": f"pulling {digest}", "digest": digest, "total": total}
    return line if completed is None else {**line, "completed": completed}


def test_bytes_are_added_up_over_all_files():
    meter = _meter()
    subject = ("pull", "m", "http://gpu:11434")
    assert _fields(meter.read({"status": "pulling manifest"})) == (*subject, "pulling manifest", None, 0, 0)
    meter.read(_line("a", 100, 40))
    assert _fields(meter.read(_line("b", 50, 10))) == (*subject, "pulling b", "b", 50, 150)
    assert meter.last.share == 50 / 150


@pytest.mark.parametrize("status", [None, 7, ["pulling"], {}])
def test_a_status_that_is_no_text_is_an_empty_one(status):
    assert _meter().read({"status": status, "digest": "a", "total": 100}).status == ""


@pytest.mark.parametrize(("completed", "total"), [(math.nan, 1), (math.inf, math.inf), (1, math.nan), (0, 0)])
def test_counts_that_are_no_numbers_have_no_share(completed, total):
    assert _event(completed, total).share is None


def test_a_line_that_says_nothing_new_is_passed_over():
    meter = _meter()
    assert meter.read(_line("a", 100)) is not None
    assert meter.read(_line("a", 100)) is None
    assert meter.read(_line("a", 100, 1)) is not None


def test_what_the_server_takes_back_is_not_taken_back():
    meter = _meter()
    meter.read(_line("a", 100, 60))
    assert meter.read(_line("a", 100, 20)) is None
    assert meter.last.completed == 60


def test_what_was_there_before_is_not_moved():
    meter = _meter()
    meter.read(_line("a", 100, 60))
    meter.read(_line("b", 50, 50))
    assert meter.moved == 0
    meter.read(_line("a", 100, 80))
    assert meter.moved == 20
    assert meter.missing_of("a") == 20


def test_bytes_that_are_moved_twice_count_once():
    meter = _meter()
    for completed in (0, 50, 0, 50, 70):
        meter.read(_line("a", 100, completed))
    assert meter.moved == 70


def test_when_all_is_there_nothing_is_missing():
    for status in ("verifying sha256 digest", "writing manifest", "pushing manifest", "success"):
        meter = _meter()
        meter.read(_line("a", 100, 60))
        assert meter.read({"status": status}).completed == 100
        assert meter.moved == 40


def test_asking_for_the_manifest_again_completes_nothing():
    meter = _meter()
    meter.read(_line("a", 100, 60))
    assert meter.read({"status": "pulling manifest"}).completed == 60


def test_odd_lines_do_no_harm():
    meter = _meter()
    for line in ({}, {"status": 7}, {"digest": 7, "total": 7}, {"digest": "a", "total": "x"}, _line("a", 10, "x")):
        meter.read(line)
    assert (meter.last.completed, meter.last.total) == (0, 10)


@pytest.mark.parametrize("absurd", [10**400, -1, True], ids=str)
def test_sizes_that_no_file_can_have_are_passed_over(absurd):
    meter = _meter()
    assert meter.read({"status": "pulling a", "digest": "a", "total": absurd, "completed": 1}).total == 0
    assert meter.read({"status": "pulling b", "digest": "b", "total": 10, "completed": absurd}).share == 0


@pytest.mark.parametrize("lines", [[(100, 500)], [(100, 40), (100, 500)], [(100, 500), (50, 20)], [(0, 5), (100, 100)]])
def test_the_share_is_never_above_one_whatever_the_server_counts(lines):
    meter = _meter()
    for total, completed in lines:
        meter.read(_line("a", total, completed))
        assert meter.last.completed <= meter.last.total
        assert 0 <= (meter.last.share or 0) <= 1
    assert meter.missing_of("a") >= 0


def test_more_than_all_of_one_file_is_not_taken_for_some_of_another():
    meter = _meter()
    meter.read(_line("a", 100, 500))
    meter.read(_line("b", 400, 0))
    assert meter.last.share == 100 / 500


@pytest.mark.parametrize(
    ("completed", "total", "share"), [(5, 1, 1.0), (-1, 2, 0.0), (1, 2, 0.5), (10**400, 3, 1.0), (1, 0, None)]
)
def test_a_share_is_from_0_to_1(completed, total, share):
    assert _event(completed, total).share == share
