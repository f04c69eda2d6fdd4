"""One structured record for each change, and never a secret."""

import json
import logging
import threading
from datetime import datetime, timedelta, timezone

import pytest

from griptape_ollama import OllamaCancelledError, OllamaContentError, OllamaError, OllamaModels, OllamaResponseError
from griptape_ollama.models.audit import Change, audited, record_call
from griptape_ollama.testing import OllamaSimulator, SimulatedModel
from griptape_ollama.transport.call_reports import CallReport

BIG = SimulatedModel(name="big", size=10_000_000, pull_bytes_per_second=1_000_000)


@pytest.fixture
def simulator():
    with OllamaSimulator(models=[SimulatedModel(name="one"), SimulatedModel(name="two")], library=[BIG]) as simulator:
        yield simulator


def _digest(models, name):
    found = {each.name: each.digest for each in models.list()}
    return found.get(f"{name}:latest")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda models: models.copy("one", "x"), ("copy", "x", {"source": "one"})),
        (lambda models: models.alias("x", "one"), ("alias", "x", {"source": "one"})),
        (lambda models: models.alias("x", "one", system="s"), ("alias", "x", {"source": "one"})),
        (lambda models: models.create("x", from_model="one", system="s"), ("create", "x", {"source": "one"})),
        (lambda models: models.alias("two", "one"), ("alias", "two", {"source": "one"})),
        (lambda models: models.pull("big"), ("pull", "big", {})),
        (lambda models: models.pull("big", insecure=True), ("pull", "big", {"insecure": True})),
        (lambda models: models.push("one"), ("push", "one", {})),
        (lambda models: models.delete("one"), ("delete", "one", {})),
    ],
)
def test_each_change_is_one_record(manage, audit, change, expected):
    action, name, details = expected
    one = SimulatedModel(name="one")
    with OllamaSimulator(models=[one, SimulatedModel(name="two")], library=[BIG], time_scale=1000) as simulator:
        models = manage(simulator)
        before = _digest(models, name)
        change(models)
        after = _digest(models, name)
        (record,) = audit()
    assert record.pop("seconds") >= 0
    time = datetime.fromisoformat(record.pop("time"))
    assert abs(datetime.now(timezone.utc) - time) < timedelta(minutes=1)
    assert record == {
        "action": action,
        "model": name,
        "host": models.connection.base_url,
        "outcome": "unchanged" if before == after else "done",
        "digest_before": before,
        "digest_after": after,
        **details,
    }
    assert json.dumps(record)


def test_the_message_of_a_record_has_the_same_fields(models, caplog):
    caplog.set_level(logging.INFO, logger="griptape_ollama.audit")
    models.copy("one", "x")
    (message,) = [record.getMessage() for record in caplog.records if record.name == "griptape_ollama.audit"]
    assert message.startswith(f"copy of x at {models.host}: done in 0.")
    assert "source one" in message


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("/api/copy", lambda models: models.copy("one", "x")),
        ("/api/copy", lambda models: models.alias("two", "one")),
        ("/api/create", lambda models: models.alias("two", "one", system="s")),
        ("/api/create", lambda models: models.create("two", from_model="one")),
        ("/api/push", lambda models: models.push("one")),
        ("/api/delete", lambda models: models.delete("one")),
        ("/api/pull", lambda models: models.pull("big")),
    ],
)
def test_a_failure_is_recorded_by_its_class_without_the_servers_text(simulator, manage, audit, path, change):
    models = manage(simulator, max_attempts=1)
    simulator.fault("status", path=path, status=400, error="signed with hunter2")
    with pytest.raises(OllamaResponseError):
        change(models)
    (record,) = audit()
    assert (record["outcome"], record["error"]) == ("failed", "OllamaResponseError 400")
    assert record["digest_after"] is None
    assert "hunter2" not in str(record)


def test_a_model_that_is_not_there_is_a_failed_change(models, audit):
    for change in (
        lambda: models.delete("nope"),
        lambda: models.copy("nope", "x"),
        lambda: models.alias("x", "nope"),
        lambda: models.push("nope"),
        lambda: models.pull("nope"),
    ):
        with pytest.raises(OllamaError):
            change()
    assert [(record["action"], record["outcome"]) for record in audit()] == [
        (action, "failed") for action in ("delete", "copy", "alias", "push", "pull")
    ]


def test_a_cancelled_change_is_recorded_as_such(manage, audit, in_background):
    with OllamaSimulator(library=[BIG], time_scale=0) as simulator:
        models = manage(simulator)
        pulling = in_background(models.pull, "big")
        simulator.wait_for_sleeper()
        models.cancel()
        with pytest.raises(OllamaCancelledError):
            pulling.result(5)
    assert [(record["outcome"], record["error"]) for record in audit()] == [("cancelled", "OllamaCancelledError")]


def test_an_interrupted_change_is_recorded_as_cancelled(audit):
    with pytest.raises(KeyboardInterrupt), audited(Change("copy", "x", "http://gpu:11434")):
        raise KeyboardInterrupt
    assert audit()[0]["outcome"] == "cancelled"


def test_reading_and_loading_is_not_recorded(models, audit):
    models.list()
    models.show("one")
    models.exists("one")
    models.ensure("one")
    models.warm("one")
    models.loaded()
    models.unload("one")
    models.unload_all()
    with pytest.raises(OllamaContentError):
        models.copy("a b", "x")
    assert audit() == []


def test_no_secret_is_recorded(simulator, audit, caplog):
    models = OllamaModels(
        host=simulator.host.replace("http://", "http://alice:hunter2@"), headers={"X-Token": "hunter3"}
    )
    models.copy("one", "x")
    assert simulator.requests[-1].headers["X-Token"] == "hunter3"
    assert audit()[0]["host"] == simulator.host
    with audited(Change("copy", "x", "http://alice:hunter2@gpu")):
        pass
    assert "hunter" not in "".join(f"{record.__dict__}" for record in caplog.records if "audit" in record.name)


def test_nothing_is_formatted_unless_the_level_is_enabled(models, monkeypatch):
    logger = logging.getLogger("griptape_ollama.audit")
    monkeypatch.setattr(logger, "info", lambda *_, **__: pytest.fail("it was written"))
    models.copy("one", "x")


class TestGeneration:
    def test_a_request_is_recorded_with_its_numbers(self, audit):
        record_call(CallReport("http://a:b@gpu", "qwen3", "/api/chat", 1.23456, input_tokens=12, output_tokens=0))
        (record,) = audit()
        assert record.pop("time")
        assert record == {
            "action": "chat",
            "model": "qwen3",
            "host": "http://gpu",
            "outcome": "done",
            "seconds": 1.235,
            "input_tokens": 12,
            "output_tokens": 0,
        }

    @pytest.mark.parametrize(
        ("error", "outcome", "name"),
        [
            (OllamaResponseError("it said: hunter2", status=500), "failed", "OllamaResponseError 500"),
            (OllamaCancelledError("x"), "cancelled", "OllamaCancelledError"),
            (ValueError("hunter2"), "failed", "ValueError"),
        ],
    )
    def test_a_failure_is_recorded_by_its_kind(self, audit, error, outcome, name):
        record_call(CallReport("h", "m", "/api/chat", 0, error=error))
        (record,) = audit()
        assert (record["outcome"], record["error"]) == (outcome, name)
        assert "hunter2" not in str(record)


def test_records_of_many_threads_do_not_mix(models, audit):
    names = [f"copy-{number}" for number in range(16)]
    threads = [threading.Thread(target=models.copy, args=("one", name)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(record["model"] for record in audit()) == sorted(names)
    assert {record["outcome"] for record in audit()} == {"done"}
