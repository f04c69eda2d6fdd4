"""A name of one's own for a model."""

import threading

import pytest

from griptape_ollama import (
    OllamaConnectionError,
    OllamaContentError,
    OllamaError,
    OllamaModelNotFoundError,
    OllamaResponseError,
)
from griptape_ollama.testing import OllamaSimulator, SimulatedModel

ONE = SimulatedModel(name="one", size=1_000_000)
TWO = SimulatedModel(name="two", size=2_000_000)


@pytest.fixture
def simulator():
    with OllamaSimulator(models=[ONE, TWO]) as simulator:
        yield simulator


@pytest.fixture
def digest(models):
    return lambda name: next(each.digest for each in models.list() if each.name == f"{name}:latest")


def test_an_alias_is_the_model_that_it_means(models, digest):
    assert models.alias("main", "one").digest == digest("main") == digest("one")


def test_it_can_be_pointed_elsewhere_and_back(models, digest):
    for target in ("one", "two", "one"):
        models.alias("main", target)
        assert digest("main") == digest(target)


def test_it_may_have_parameters_and_a_system_prompt_of_its_own(models, digest):
    models.alias("main", "one", parameters={"temperature": 0.5}, system="Be brief.")
    shown = models.show("main")
    assert (shown.parameters, shown.system, shown.parent_model) == ({"temperature": 0.5}, "Be brief.", "one:latest")
    assert models.show("one").parameters == {}
    assert digest("main") != digest("one")


def test_an_empty_system_prompt_is_one_too(simulator, models):
    models.alias("main", "one", system="")
    assert [request.body for request in simulator.requests if request.path == "/api/create"] == [
        {"model": "main", "from": "one", "system": ""}
    ]


def test_the_name_has_a_model_at_any_moment(simulator, models):
    models.alias("main", "one")
    done, missing = threading.Event(), []

    def look():
        while not done.is_set():
            if "main:latest" not in simulator.models:
                missing.append(True)

    looking = threading.Thread(target=look)
    looking.start()
    for target in ("two", "one") * 10:
        models.alias("main", target)
        models.alias("main", target, system="x")
    done.set()
    looking.join()
    assert missing == []
    assert not any(request.path == "/api/delete" for request in simulator.requests)


class TestUnloading:
    @pytest.mark.parametrize("extras", [{}, {"system": "x"}])
    def test_what_it_meant_is_unloaded(self, simulator, models, extras):
        models.alias("main", "one")
        models.warm("main")
        models.alias("main", "two", **extras)
        assert simulator.loaded_models == []

    @pytest.mark.parametrize("extras", [{}, {"system": "y"}])
    def test_also_where_no_other_name_means_it(self, simulator, models, extras):
        models.alias("main", "one", system="x")
        models.warm("main")
        models.alias("main", "two", **extras)
        assert simulator.loaded_models == []
        assert sorted(simulator.models) == ["main:latest", "one:latest", "two:latest"]

    def test_a_model_that_stays_the_same_stays_loaded(self, simulator, models):
        for _ in range(2):
            models.alias("main", "one", system="x")
            models.warm("main")
        models.alias("main", "one", system="x")
        assert simulator.loaded_models == ["main:latest"]
        assert sorted(simulator.models) == ["main:latest", "one:latest", "two:latest"]

    def test_a_model_that_changes_its_settings_only_stays_loaded(self, simulator, models):
        models.alias("main", "one", parameters={"temperature": 0.1})
        models.warm("main")
        models.alias("main", "one", parameters={"temperature": 0.2})
        assert simulator.loaded_models == ["main:latest"]

    def test_other_models_stay_loaded(self, simulator, models):
        models.alias("main", "one")
        models.warm("two")
        models.warm("main")
        models.alias("main", "two")
        assert simulator.loaded_models == ["two:latest"]

    def test_nothing_is_unloaded_where_nothing_was_loaded(self, simulator, models, count):
        models.alias("main", "one")
        models.alias("main", "two")
        assert count(simulator, "/api/generate") == 0


class TestWrongInput:
    def _assert_untouched(self, models, before):
        assert models.list() == before

    @pytest.mark.parametrize(("name", "target"), [("a b", "one"), ("main", "b/c/d/e"), ("", "one"), ("main:", "one")])
    def test_a_name_that_is_none_is_refused_before_anything_is_sent(self, simulator, models, name, target):
        with pytest.raises(OllamaContentError, match="is not a model name"):
            models.alias(name, target)
        assert simulator.requests == []

    @pytest.mark.parametrize("extras", [{}, {"system": "x"}])
    def test_a_target_that_is_not_there_leaves_the_old_alias(self, simulator, models, count, extras):
        models.alias("main", "one")
        models.warm("main")
        before = models.list()
        with pytest.raises(OllamaModelNotFoundError, match=r"has no model 'nope'.*It has main:latest"):
            models.alias("main", "nope", **extras)
        self._assert_untouched(models, before)
        assert simulator.loaded_models == ["main:latest"]
        assert (count(simulator, "/api/copy"), count(simulator, "/api/create")) == (1, 0)

    @pytest.mark.parametrize(("path", "extras"), [("/api/copy", {}), ("/api/create", {"system": "x"})])
    @pytest.mark.parametrize("fault", [{"kind": "status", "status": 400}, {"kind": "reset"}])
    def test_a_failure_leaves_the_old_alias_loaded(self, simulator, manage, path, extras, fault):
        models = manage(simulator, max_attempts=1)
        models.alias("main", "one")
        models.warm("main")
        before = models.list()
        simulator.fault(fault["kind"], path=path, **{name: fault[name] for name in fault if name != "kind"})
        with pytest.raises(OllamaError):
            models.alias("main", "two", **extras)
        self._assert_untouched(models, before)
        assert simulator.loaded_models == ["main:latest"]

    def test_a_failure_leaves_no_stand_in(self, simulator, manage):
        models = manage(simulator, max_attempts=1)
        models.alias("main", "one", system="x")
        models.warm("main")
        simulator.fault("status", path="/api/create", status=400, error="template error")
        with pytest.raises(OllamaResponseError, match="template error"):
            models.alias("main", "two", system="y")
        assert sorted(simulator.models) == ["main:latest", "one:latest", "two:latest"]

    def test_a_stand_in_that_cannot_be_deleted_is_told_in_the_log(self, simulator, manage, caplog):
        models = manage(simulator, max_attempts=1)
        models.alias("main", "one", system="x")
        models.warm("main")
        simulator.fault("status", path="/api/delete", status=500)
        models.alias("main", "two")
        (left,) = set(simulator.models) - {"main:latest", "one:latest", "two:latest"}
        assert left.startswith("main:latest-replaced-")
        assert f"The temporary model '{left}' could not be deleted" in caplog.text

    def test_a_server_that_dies_is_an_error(self, simulator, models):
        models.alias("main", "one")
        simulator.fault("refuse", n=3)  # after the questions what is there and what is loaded
        with pytest.raises(OllamaConnectionError):
            models.alias("main", "two")
        assert "main:latest" in simulator.models
