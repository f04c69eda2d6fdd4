"""`models create`, `models cp`, `models alias`, `models rm`."""

import pytest

from griptape_ollama.testing import OllamaSimulator, SimulatedModel


@pytest.fixture
def simulator():
    models = [SimulatedModel(name=name, parameters={"top_k": 3}) for name in ("base", "other")]
    with OllamaSimulator(models=models) as simulator:
        yield simulator


class TestCreate:
    def test_progress_goes_to_the_standard_error(self, models):
        ended = models("create", "mine", "--from", "base", "--json", "--template", "{{ .Prompt }}")
        assert ended.json["model"]["name"] == "mine:latest"
        assert ended.json["action"] == "create"
        assert ended.err.startswith("create mine: ")
        assert ended.err.endswith("create mine: success\n")

    def test_quiet_prints_nothing(self, models):
        ended = models("create", "mine", "--from", "base", "-q")
        assert (ended.code, ended.out, ended.err) == (0, "", "")

    def test_creating_the_same_model_again_changes_nothing(self, models):
        models("create", "mine", "--from", "base", "--system", "Be brief.")
        assert "is the same as before" in models("create", "mine", "--from", "base", "--system", "Be brief.").out


class TestCopy:
    def test_a_copy_is_the_same_model(self, models):
        assert models("cp", "base", "twin").out == "twin:latest is a copy of base.\n"
        digests = {entry["name"]: entry["digest"] for entry in models("list", "--json").json}
        assert digests["twin:latest"] == digests["base:latest"]

    def test_json_describes_the_copy(self, models):
        assert models("cp", "base", "twin", "--json").json["name"] == "twin:latest"


class TestAlias:
    def test_an_alias_can_be_moved_to_another_model(self, models):
        assert models("alias", "main", "base").out == "main:latest means base now.\n"
        ended = models("alias", "main", "other", "--parameter", "temperature=0.5", "--system", "Be bold.", "--json")
        assert ended.json["name"] == "main:latest"
        shown = models("show", "main", "--json").json
        assert shown["parameters"]["temperature"] == 0.5
        assert shown["system"] == "Be bold."

    def test_an_alias_keeps_its_model_when_the_new_target_is_not_found(self, models):
        before = models("alias", "main", "base", "--json").json
        assert models("alias", "main", "nope").code == 3
        assert [each["digest"] for each in models("list", "--json").json if each["name"] == "main:latest"] == [
            before["digest"]
        ]


class TestRemove:
    def test_several_are_deleted_at_once(self, models, simulator):
        ended = models("rm", "base", "other")
        assert (ended.code, ended.out, ended.err) == (0, "Deleted base.\nDeleted other.\n", "")
        assert not simulator.models

    def test_a_missing_model_is_an_error_but_the_rest_are_deleted(self, models, simulator):
        ended = models("rm", "base", "nope", "other")
        assert (ended.code, ended.out) == (3, "Deleted base.\nDeleted other.\n")
        assert "has no model 'nope'" in ended.err
        assert ended.err.count("\n") == 1
        assert not simulator.models

    def test_force_ignores_missing_models(self, models):
        ended = models("rm", "--force", "nope", "base", "--json")
        assert (ended.code, ended.err) == (0, "")
        assert ended.json == {"deleted": ["base"], "missing": ["nope"]}

    def test_json_lists_what_was_deleted_before_a_failure(self, models, simulator):
        simulator.fault("status", path="/api/delete", n=2, status=403, error="hands off")
        ended = models("rm", "base", "other", "--json")
        assert ended.code == 6
        assert ended.json == {"deleted": ["base"], "missing": []}
        assert "hands off" in ended.err
