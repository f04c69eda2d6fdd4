"""Every spelling of a model's name means the same model, whatever is asked about it."""

import pytest
from griptape.artifacts import TextArtifact

from griptape_ollama import OllamaEmbeddingDriver, OllamaModels, OllamaPromptDriver
from griptape_ollama.models.keep_alive_leases import is_leased, leased
from griptape_ollama.models.metadata_cache import ServerMetadata
from griptape_ollama.testing import OllamaSimulator, SimulatedModel
from griptape_ollama.transport.connection import Connection

_MODELS = [
    SimulatedModel(name="nomic-embed-text", capabilities=("embedding",)),
    SimulatedModel(name="me/Reader:V2", capabilities=("embedding",)),
    SimulatedModel(name="hf.co/Makers/bge-base-en-GGUF:Q8_0", capabilities=("embedding",)),
    SimulatedModel(name="talker", capabilities=("completion", "tools")),
]
_SPELLINGS = {
    "nomic-embed-text:latest": (
        "nomic-embed-text", "nomic-embed-text:latest", "Nomic-Embed-Text:LATEST", "library/nomic-embed-text",
        "LIBRARY/nomic-embed-text:latest", "registry.ollama.ai/library/nomic-embed-text",
        "Registry.Ollama.AI/Library/Nomic-Embed-Text:latest", "https://registry.ollama.ai/library/nomic-embed-text",
    ),
    "me/Reader:V2": ("me/Reader:V2", "ME/reader:v2", "registry.ollama.ai/me/reader:v2"),
    "hf.co/Makers/bge-base-en-GGUF:Q8_0": (
        "hf.co/Makers/bge-base-en-GGUF:Q8_0", "HF.CO/makers/BGE-base-en-gguf:q8_0",
        "https://hf.co/makers/bge-base-en-gguf:q8_0", "http://hf.co/makers/bge-base-en-gguf:q8_0",
    ),
}  # fmt: skip
_PAIRS = [(listed, spelling) for listed, spellings in _SPELLINGS.items() for spelling in spellings]


@pytest.fixture(scope="module")
def simulator():
    with OllamaSimulator(models=_MODELS) as simulator:
        yield simulator


@pytest.fixture(autouse=True)
def _afresh(simulator):
    simulator.reset()


@pytest.fixture
def models(simulator):
    return OllamaModels(host=simulator.url)


@pytest.mark.parametrize(("listed", "spelling"), _PAIRS)
def test_vectors_are_known_at_the_second_time(simulator, listed, spelling):
    driver = OllamaEmbeddingDriver(model=spelling, host=simulator.url)
    assert driver.embed("fog") == driver.embed("fog")
    assert (driver.cache_info.hits, driver.cache_info.misses) == (1, 1)
    assert driver.with_settings(model=listed).embed("fog") == driver.embed("fog")
    assert driver.cache_info.misses == 1


@pytest.mark.parametrize(("listed", "spelling"), _PAIRS)
def test_a_model_is_found_among_the_installed_and_the_loaded_ones(models, listed, spelling):
    assert models.exists(spelling)
    assert models.ensure(spelling, policy="never").name == listed
    models.warm(spelling)
    assert [each.name for each in models.loaded()] == [listed]
    assert models.unload(spelling)
    models.wait_until_unloaded(spelling, timeout=10)
    assert models.loaded() == []


@pytest.mark.parametrize("spelling", ["library/nomic-embed-text", "https://hf.co/makers/bge-base-en-gguf:q8_0"])
def test_an_alias_made_from_any_spelling_means_the_model(models, spelling):
    digest = models.ensure(spelling, policy="never").digest
    assert models.alias("library/Main", spelling).digest == digest
    assert models.exists("main")
    models.delete("MAIN")


def test_facts_are_asked_once_for_all_spellings(simulator):
    connection = Connection.open(simulator.url)
    metadata = ServerMetadata(connection)
    metadata.forget()
    shown = [metadata.show(spelling).raw for spelling in _SPELLINGS["nomic-embed-text:latest"]]
    digests = {metadata.digest(spelling) for spelling in _SPELLINGS["nomic-embed-text:latest"]}
    metadata.note_missing("library/nomic-embed-text", "vision")
    assert metadata.show("nomic-embed-text").missing == {"vision"}
    connection.close()
    assert all(each == shown[0] for each in shown)
    assert len(digests) == 1
    assert None not in digests
    assert [request.path for request in simulator.requests] == ["/api/show", "/api/tags"]


def test_a_hold_under_one_name_is_seen_under_another(simulator):
    connection = Connection.open(simulator.url)
    with leased(connection, "library/Talker"):
        assert is_leased(connection, "talker:latest")
    assert not is_leased(connection, "talker")
    connection.close()


def test_drivers_that_spell_a_model_differently_share_its_token_counts(simulator):
    text = "The ferry runs until noon on most days of the year. " * 20
    driver = OllamaPromptDriver(model="library/Talker", host=simulator.url)
    driver.run(TextArtifact(text))
    twin = OllamaPromptDriver(model="registry.ollama.ai/library/talker", host=simulator.url)
    assert twin.tokenizer.count_tokens(text) == driver.tokenizer.count_tokens(text)
    assert [request.body["model"] for request in simulator.chats] == ["library/Talker"]


def test_scripted_replies_and_faults_of_the_simulator_are_for_all_spellings(simulator):
    simulator.reply("Aye.", model="registry.ollama.ai/library/talker")
    assert OllamaPromptDriver(model="Talker", host=simulator.url).run(TextArtifact("Well?")).to_text() == "Aye."
