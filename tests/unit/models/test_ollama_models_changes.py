"""Making, copying, pushing and deleting models."""

import hashlib

import pytest

from griptape_ollama import (
    OllamaAuthError,
    OllamaContentError,
    OllamaModelNotFoundError,
    OllamaResponseError,
)
from griptape_ollama.testing import OllamaSimulator


class TestCreate:
    def test_a_model_is_made_from_another(self, simulator, models):
        seen = []
        result = models.create(
            "pirate",
            from_model="simulator",
            system="You are a pirate.",
            template="{{ .System }}{{ .Prompt }}",
            parameters={"temperature": 1.5},
            messages=[{"role": "user", "content": "Ahoy"}],
            license="Mine",
            on_progress=seen.append,
        )
        assert (result.action, result.model.name, result.digest_before) == ("create", "pirate:latest", None)
        shown = models.show("pirate")
        assert (shown.system, shown.template, shown.license) == (
            "You are a pirate.", "{{ .System }}{{ .Prompt }}", "Mine",
        )  # fmt: skip
        assert shown.parameters["temperature"] == 1.5
        assert shown.parent_model == "simulator:latest"
        assert [dict(message) for message in shown.messages] == [{"role": "user", "content": "Ahoy"}]
        assert seen[-1].status == "success"
        assert seen[0].status.startswith("using existing layer")
        assert simulator.models[0] == "pirate:latest"

    def test_the_same_again_changes_nothing(self, models):
        models.create("pirate", from_model="simulator", system="x")
        assert models.create("pirate", from_model="simulator", system="x").is_unchanged

    def test_a_model_is_made_from_a_file(self, models):
        # Too short for a real server, which reads the file.
        data = b"GGUF" + bytes(100)
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        models.client._client.post(f"/api/blobs/{digest}", content=data)
        assert models.create("mine", files={"mine.gguf": digest}).model.name == "mine:latest"

    def test_fields_of_newer_servers_are_sent(self, simulator, models):
        models.create("mine", from_model="simulator", renderer="qwen3")
        bodies = [request.body for request in simulator.requests if request.path == "/api/create"]
        assert bodies == [{"model": "mine", "from": "simulator", "renderer": "qwen3"}]

    @pytest.mark.parametrize("given", [{}, {"from_model": "simulator", "files": {}}])
    def test_it_needs_one_thing_to_be_made_from(self, simulator, models, given):
        with pytest.raises(OllamaContentError, match="from_model= or files="):
            models.create("mine", **given)
        assert simulator.requests == []

    @pytest.mark.parametrize(
        ("parameters", "reason"),
        [
            ({"temperature": "hot"}, "must be a number"),
            ({"stop": "x"}, "array of strings"),
            ({"num_ctxx": 1}, "num_ctx"),
        ],
    )
    def test_parameters_are_checked_since_the_server_accepts_any(self, simulator, models, parameters, reason):
        for make in (
            lambda: models.create("mine", from_model="simulator", parameters=parameters),
            lambda: models.alias("mine", "simulator", parameters=parameters),
        ):
            with pytest.raises(OllamaContentError, match=reason):
                make()
        assert simulator.requests == []

    @pytest.mark.parametrize(("name", "parent"), [("a b", "simulator"), ("mine", "a b")])
    def test_names_are_checked_before_anything_is_sent(self, simulator, models, name, parent):
        with pytest.raises(OllamaContentError, match="'a b' is not a model name"):
            models.create(name, from_model=parent)
        assert simulator.requests == []

    def test_a_missing_parent_is_named_as_the_reason(self, simulator, models, count):
        with pytest.raises(OllamaModelNotFoundError, match="that it is made from may be wrong"):
            models.create("mine", from_model="nope")
        assert count(simulator, "/api/create") == 1

    def test_an_invalid_input_is_not_retried(self, simulator, models, count):
        for wrong in ({"template": "{{ .x"}, {"quantize": "q17"}):
            with pytest.raises(OllamaResponseError, match=r"template error|unsupported quantization") as caught:
                models.create("mine", from_model="simulator", **wrong)
            assert caught.value.permanent
        assert count(simulator, "/api/create") == 2
        assert simulator.models == ["simulator:latest", "simulator-embed:latest"]

    def test_a_parent_that_is_pulled_and_breaks_is_pulled_on(self, simulator, models):
        simulator.fault("error_line", path="/api/create", after=1, error="max retries exceeded: EOF")
        assert models.create("mine", from_model="library-embed").attempts == 2


class TestCopy:
    def test_a_copy_is_the_same_model_under_another_name(self, simulator, models):
        copied = models.copy("simulator", "backup:v1")
        assert copied.name == "backup:v1"
        assert copied.digest == models.list()[1].digest
        assert simulator.models[0] == "backup:v1"

    def test_a_source_that_is_not_there_leaves_the_other_name_alone(self, models, count, simulator):
        models.copy("simulator", "backup")
        before = models.list()
        with pytest.raises(OllamaModelNotFoundError, match="has no model 'nope'"):
            models.copy("nope", "backup")
        assert models.list() == before
        assert count(simulator, "/api/copy") == 1

    def test_names_are_checked_before_anything_is_sent(self, simulator, models):
        for names in (("simulator", "a b"), ("a b", "backup")):
            with pytest.raises(OllamaContentError, match="'a b' is not a model name"):
                models.copy(*names)
        assert simulator.requests == []


class TestPush:
    def test_a_model_is_pushed_and_can_be_pulled_again(self, models):
        models.copy("simulator", "me/mine")
        seen = []
        result = models.push("me/mine", on_progress=seen.append)
        assert (result.action, result.model.name, result.is_unchanged) == ("push", "me/mine:latest", True)
        assert [seen[0].status, seen[-1].status] == ["retrieving manifest", "success"]
        assert seen[-1].completed == seen[-1].total == result.bytes_moved > 800_000_000
        models.delete("me/mine")
        assert models.pull("me/mine").model.digest == result.model.digest

    def test_what_is_not_there_cannot_be_pushed(self, simulator, models, count):
        with pytest.raises(OllamaModelNotFoundError):
            models.push("me/nope")
        assert count(simulator, "/api/push") == 0

    def test_a_registry_that_says_no_is_an_error_of_rights(self, simulator, models, count):
        text = (
            "you are not authorized to push to this namespace, create the model under a namespace you own: unauthorized"
        )
        simulator.fault("error_line", path="/api/push", after=1, error=text)
        with pytest.raises(OllamaAuthError, match="ollama signin"):
            models.push("simulator")
        assert count(simulator, "/api/push") == 1

    def test_a_broken_push_is_tried_again(self, simulator, models):
        simulator.fault("cut", path="/api/push", after=3)
        assert models.push("simulator").attempts == 2

    def test_a_registry_that_does_not_answer_is_an_error(self, manage):
        with OllamaSimulator(library=None) as simulator, pytest.raises(OllamaResponseError, match="no such host"):
            manage(simulator, max_attempts=2).push("simulator")


class TestDelete:
    def test_a_deleted_model_is_gone(self, simulator, models):
        assert models.delete("simulator") is None
        assert simulator.models == ["simulator-embed:latest"]

    def test_a_model_in_memory_goes_from_there_too(self, simulator, models):
        models.warm("simulator")
        models.delete("simulator")
        assert simulator.loaded_models == []

    def test_a_model_in_memory_that_has_another_name_stays_there(self, simulator, models):
        models.copy("simulator", "mine")
        models.warm("simulator")
        models.delete("mine")
        assert simulator.loaded_models == ["simulator:latest"]

    def test_what_is_not_there_cannot_be_deleted(self, simulator, models):
        with pytest.raises(OllamaModelNotFoundError, match="It has simulator:latest, simulator-embed:latest"):
            models.delete("nope")

    def test_a_first_try_that_worked_and_broke_is_no_failure(self, simulator, models, count):
        simulator.fault("reset", path="/api/delete", at="after_headers")
        models.delete("simulator")
        assert count(simulator, "/api/delete") == 2
        assert "simulator:latest" not in simulator.models


def test_each_change_clears_the_cached_metadata(simulator, models):
    def metadata():
        return models.facts.show("mine").parameters

    models.copy("simulator", "mine")
    assert metadata() == {}
    models.create("mine", from_model="simulator", parameters={"top_k": 7})
    assert metadata() == {"top_k": 7}
    models.copy("simulator", "mine")
    assert metadata() == {}
    models.alias("mine", "simulator", parameters={"top_k": 8})
    assert metadata() == {"top_k": 8}
    assert len(models.facts.tags()) == 3
    models.delete("mine")
    assert len(models.facts.tags()) == 2
    models.pull("library-embed")
    assert len(models.facts.tags()) == 3
    assert models.facts.ps() == []
    models.warm("simulator")
    assert len(models.facts.ps()) == 1
    models.unload("simulator")
    assert models.facts.ps() == []
