"""The model of an embedding driver: how it is pulled, and the audit records of its use."""

import logging

import pytest

from griptape_ollama import OllamaContentError, OllamaEmbeddingDriver, OllamaModelNotFoundError, OllamaResponseError
from griptape_ollama.testing import OllamaSimulator, SimulatedModel


@pytest.fixture
def audit(caplog):
    caplog.set_level(logging.INFO, logger="griptape_ollama.audit")
    return lambda: [record.audit for record in caplog.records if record.name == "griptape_ollama.audit"]


def test_a_missing_model_is_an_error_by_default(simulator):
    with pytest.raises(OllamaModelNotFoundError, match="ollama pull nope"):
        OllamaEmbeddingDriver(model="nope", host=simulator.url).embed("a")


@pytest.mark.parametrize("policy", ["when_missing", "always"])
def test_a_missing_model_is_pulled(policy):
    library = [SimulatedModel(name="e", capabilities=("embedding",), embedding_length=8)]
    with OllamaSimulator(library=library) as simulator:
        driver = OllamaEmbeddingDriver(model="e", host=simulator.url, pull_policy=policy)
        assert [len(vector) for vector in (driver.embed("a"), *driver.embed_batch(["b", "c"]))] == [8, 8, 8]
        assert [request.path for request in simulator.requests].count("/api/pull") == 1


def test_requests_are_recorded_where_that_is_wanted(simulator, audit):
    driver = OllamaEmbeddingDriver(model="simulator-embed", host=simulator.url, audit_requests=True)
    driver.embed("a secret")
    driver.embed_batch(["b", "c"])
    assert [(record["action"], record["outcome"]) for record in audit()] == [("embed", "done")] * 2
    assert all(record["input_tokens"] > 0 for record in audit())
    assert "secret" not in repr(audit())


def test_a_request_that_fails_is_recorded_with_its_outcome(simulator, audit):
    simulator.fault("status", path="/api/embed", status=501, error="no")
    with pytest.raises(OllamaResponseError):
        OllamaEmbeddingDriver(model="simulator-embed", host=simulator.url, audit_requests=True).embed("a")
    assert [record["outcome"] for record in audit()] == ["failed"]


def test_an_embedding_driver_needs_a_model():
    with pytest.raises(TypeError, match="model"):
        OllamaEmbeddingDriver()


@pytest.mark.parametrize("model", [None, "", "  "])
@pytest.mark.parametrize("operation", [None, "query"])
def test_without_a_name_it_says_what_to_give(simulator, model, operation):
    driver = OllamaEmbeddingDriver(model=model, host=simulator.url)
    with pytest.raises(OllamaContentError, match="nomic-embed-text"):
        driver.embed("a", vector_operation=operation)
    assert simulator.requests == []


def test_blanks_around_the_name_do_not_matter(simulator):
    assert len(OllamaEmbeddingDriver(model=" simulator-embed\n", host=simulator.url).embed("a")) == 64


def test_a_policy_is_one_of_three():
    with pytest.raises(OllamaContentError, match="pull_policy"):
        OllamaEmbeddingDriver(model="m", pull_policy="sometimes")
