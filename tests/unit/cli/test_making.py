"""`models create`, `models cp`, `models alias`, `models rm`."""

import pytest

from griptape_ollama.testing import OllamaSimulator, SimulatedModel


@pytest.fixture
def simulator():
    models = [SimulatedModel(name=name, parameters={"top_k": 3}) for name in ("base", "other")]
    with OllamaSimulator(models=models) as simulator:
        yield simulator


class TestCreate:
    def test_parameters_are_typed_as_the_server_types_them(self, models, simulator):
        texts = ["temperature=1", "num_ctx=8192", "stop=[END]", "stop=1", "use_mmap=true", "top_p=0.25", "seed=-1"]
        options = [option for text in texts for option in ("--parameter", text)]
        ended = models("create", "mine", "--from", "base", "--system", "Be brief.", *options)
        assert (ended.code, ended.out) == (0, "Made mine:latest.\n")
        sent = next(request.body for request in simulator.requests if request.path == "/api/create")
        assert sent["parameters"] == {
            "temperature": 1,
            "num_ctx": 8192,
            "stop": ["[END]", "1"],
            "use_mmap": True,
            "top_p": 0.25,
            "seed": -1,
        }
        assert (sent["from"], sent["system"]) == ("base", "Be brief.")
        assert "template" not in sent
        assert models("show", "mine", "--json").json["system"] == "Be brief."

    def test_progress_is_apart_from_the_result(self, models):
        ended = models("create", "mine", "--from", "base", "--json", "--template", "{{ .Prompt }}")
        assert ended.json["model"]["name"] == "mine:latest"
        assert ended.json["action"] == "create"
        assert ended.err.startswith("create mine: ")
        assert ended.err.endswith("create mine: success\n")

    def test_quiet_says_nothing(self, models):
        ended = models("create", "mine", "--from", "base", "-q")
        assert (ended.code, ended.out, ended.err) == (0, "", "")

    def test_the_same_again_is_said_to_be_the_same(self, models):
        models("create", "mine", "--from", "base", "--system", "Be brief.")
        assert "is the same as before" in models("create", "mine", "--from", "base", "--system", "Be brief.").out

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("temperature", "'temperature' is not a pair: write it like temperature=0.5"),
            ("=1", "'=1' is not a pair"),
            ("num_ctx=8k", "option 'num_ctx' must be an integer, got '8k'"),
            ("temperature=NaN", "option 'temperature' must be a number, got 'NaN'"),
            ("temprature=1", "did you mean 'temperature'?"),
        ],
    )
    def test_a_wrong_parameter_is_wrong_use_and_nothing_is_sent(self, models, simulator, text, reason):
        ended = models("create", "mine", "--from", "base", "--parameter", text)
        assert (ended.code, ended.out) == (2, "")
        assert reason in ended.err
        assert not simulator.requests

    def test_a_parameter_that_is_given_twice_is_wrong_use(self, models):
        ended = models("create", "mine", "--from", "base", "--parameter", "top_k=1", "--parameter", "top_k=2")
        assert ended.code == 2
        assert "'top_k' is given twice" in ended.err

    def test_a_base_that_nobody_has_is_not_found(self, models):
        ended = models("create", "mine", "--from", "nowhere:to-be-found", "-q")
        assert ended.code == 3
        assert "The name of the model that it is made from may be wrong" in ended.err

    def test_a_model_is_made_from_something(self, models):
        ended = models("create", "mine")
        assert ended.code == 2
        assert "--from" in ended.err


class TestCopy:
    def test_a_copy_is_the_same_model(self, models):
        assert models("cp", "base", "twin").out == "twin:latest is a copy of base.\n"
        digests = {entry["name"]: entry["digest"] for entry in models("list", "--json").json}
        assert digests["twin:latest"] == digests["base:latest"]

    def test_json_describes_the_copy(self, models):
        assert models("cp", "base", "twin", "--json").json["name"] == "twin:latest"

    def test_a_source_that_is_not_there_is_not_found(self, models):
        ended = models("cp", "nope", "twin")
        assert (ended.code, ended.out) == (3, "")
        assert "has no model 'nope'" in ended.err


class TestAlias:
    def test_a_name_means_one_model_and_then_another(self, models):
        assert models("alias", "main", "base").out == "main:latest means base now.\n"
        ended = models("alias", "main", "other", "--parameter", "temperature=0.5", "--system", "Be bold.", "--json")
        assert ended.json["name"] == "main:latest"
        shown = models("show", "main", "--json").json
        assert shown["parameters"]["temperature"] == 0.5
        assert shown["system"] == "Be bold."

    def test_a_target_that_is_not_there_is_not_found_and_the_name_means_what_it_did(self, models):
        before = models("alias", "main", "base", "--json").json
        assert models("alias", "main", "nope").code == 3
        assert [each["digest"] for each in models("list", "--json").json if each["name"] == "main:latest"] == [
            before["digest"]
        ]


class TestRemove:
    def test_several_go_at_once(self, models, simulator):
        ended = models("rm", "base", "other")
        assert (ended.code, ended.out, ended.err) == (0, "Deleted base.\nDeleted other.\n", "")
        assert not simulator.models

    def test_one_that_is_missing_is_an_error_but_the_others_go(self, models, simulator):
        ended = models("rm", "base", "nope", "other")
        assert (ended.code, ended.out) == (3, "Deleted base.\nDeleted other.\n")
        assert "has no model 'nope'" in ended.err
        assert ended.err.count("\n") == 1
        assert not simulator.models

    def test_force_does_not_mind_what_is_missing(self, models):
        ended = models("rm", "--force", "nope", "base", "--json")
        assert (ended.code, ended.err) == (0, "")
        assert ended.json == {"deleted": ["base"], "missing": ["nope"]}

    def test_json_says_what_was_deleted_before_something_failed(self, models, simulator):
        simulator.fault("status", path="/api/delete", n=2, status=403, error="hands off")
        ended = models("rm", "base", "other", "--json")
        assert ended.code == 6
        assert ended.json == {"deleted": ["base"], "missing": []}
        assert "hands off" in ended.err

    def test_a_name_is_needed(self, models):
        assert models("rm").code == 2
