"""OllamaModels and a real server: what is installed and what is in memory. Nothing here needs another machine."""

import pytest

from griptape_ollama import OllamaModelNotFoundError, OllamaModels
from griptape_ollama.protocol.model_name import is_same_model

COPY, ALIAS = "a-copy-of-this-test", "an-alias-of-this-test"


@pytest.fixture
def models(server):
    """The models of the server; those of this test are gone afterwards, and so is what it loaded."""
    models = OllamaModels()
    yield models
    for name in (COPY, ALIAS):
        if models.exists(name):
            models.delete(name)


@pytest.fixture(params=["chat", "embed"])
def model(request, models):
    """A model of each kind, which is not in memory when the test begins and when it has ended."""
    name = request.getfixturevalue(f"{request.param}_model")
    models.unload(name)
    models.wait_until_unloaded(name)
    yield name
    models.unload(name)


def names_of(entries):
    return [entry.name for entry in entries]


class TestLooking:
    def test_what_is_listed_can_be_shown(self, models, chat_model):
        (listed,) = [each for each in models.list() if is_same_model(each.name, chat_model)]
        shown = models.show(chat_model)
        assert listed.size > 0
        assert len(listed.digest) == 64
        assert listed.modified_at.tzinfo is not None
        assert (shown.family, shown.parameter_size) == (listed.family, listed.parameter_size)
        assert shown.can("completion")
        assert shown.context_length > 0
        assert shown.weights

    def test_an_embedding_model_reports_the_length_of_its_vectors(self, models, embed_model):
        assert models.show(embed_model).can("embedding")
        assert models.show(embed_model).embedding_length > 0

    def test_models_exist_by_any_spelling_of_their_name(self, models, chat_model):
        assert models.exists(chat_model)
        assert models.exists(chat_model.upper())
        assert not models.exists("no-such-model-of-mine:1b")

    def test_a_missing_model_names_the_pull_command(self, models):
        for ask in (models.show, models.warm, models.unload, models.delete, lambda name: models.ensure(name, "never")):
            with pytest.raises(OllamaModelNotFoundError, match="ollama pull no-such-model-of-mine:1b"):
                ask("no-such-model-of-mine:1b")


class TestMemory:
    def test_a_model_is_warmed_listed_and_unloaded(self, models, model):
        first, again = models.warm(model, "10m"), models.warm(model, "20m")
        assert (first.was_loaded, again.was_loaded) == (False, True)
        assert first.loaded.size > 0
        assert first.loaded.context_length > 0
        assert again.loaded.context_length == first.loaded.context_length
        assert 0 <= again.loaded.gpu_share <= 1
        assert 500 < (again.loaded.expires_at - first.loaded.expires_at).total_seconds() < 700
        assert models.unload(model) is True
        assert models.wait_until_unloaded(model) < 30
        assert model not in [name.removesuffix(":latest") for name in names_of(models.loaded())]
        assert models.unload(model) is False

    def test_a_model_may_stay_loaded_forever(self, models, model):
        assert models.warm(model, -1).loaded.stays_for_good

    def test_a_window_is_kept_when_a_loaded_model_is_warmed_again(self, models, chat_model):
        models.warm(chat_model, "10m", options={"num_ctx": 1024})
        assert models.warm(chat_model, "20m").loaded.context_length == 1024
        models.unload(chat_model)


class TestNames:
    def test_a_copy_is_the_same_model_and_is_loaded_once(self, models, chat_model):
        copied = models.copy(chat_model, COPY)
        (source,) = [each for each in models.list() if is_same_model(each.name, chat_model)]
        assert copied.digest == source.digest
        models.warm(chat_model, "10m")
        assert models.warm(COPY, "10m").was_loaded
        assert models.unload(COPY) is True
        models.wait_until_unloaded(chat_model)
        models.delete(COPY)
        assert not models.exists(COPY)

    def test_an_alias_moves_to_another_model_and_the_old_one_is_unloaded(self, models, chat_model, embed_model):
        models.alias(ALIAS, embed_model)
        models.warm(ALIAS, "10m")
        models.alias(ALIAS, chat_model, parameters={"temperature": 0.5, "num_ctx": 1024}, system="Be brief.")
        models.wait_until_unloaded(embed_model)
        shown = models.show(ALIAS)
        assert (shown.parameters["temperature"], shown.parameters["num_ctx"]) == (0.5, 1024)
        assert shown.system == "Be brief."
        assert models.warm(ALIAS, "10m").loaded.context_length == 1024
        assert models.unload(ALIAS) is True
        models.wait_until_unloaded(ALIAS)

    def test_a_model_that_is_deleted_while_it_is_loaded_leaves_no_runner_behind(self, models, chat_model):
        models.unload(chat_model)
        models.wait_until_unloaded(chat_model)
        models.alias(ALIAS, chat_model, system="Be brief.")
        models.warm(ALIAS, "10m")
        models.delete(ALIAS)
        models.wait_until_unloaded(chat_model)
        assert ALIAS not in [name.removesuffix(":latest") for name in names_of(models.loaded())]
