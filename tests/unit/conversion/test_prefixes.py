"""Which prefixes an embedding model wants, told by its name."""

import ast
import dataclasses
import re
from pathlib import Path

import pytest

from griptape_ollama.conversion.prefixes import _FAMILIES, Prefixes, prefixes_of

PAGE = Path(__file__).parents[3] / "docs" / "embeddings.md"
_NONE = Prefixes("", "")
_NOMIC = Prefixes("search_query: ", "search_document: ")
_REPRESENT = Prefixes("Represent this sentence for searching relevant passages: ", "")
_E5 = Prefixes("query: ", "passage: ")
_INSTRUCT = Prefixes(
    "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: ", ""
)
_QWEN3 = Prefixes("Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:", "")
_STELLA = Prefixes("Instruct: Given a web search query, retrieve relevant passages that answer the query.\nQuery: ", "")
_BGE_GEMMA = Prefixes(
    "<instruct>Given a web search query, retrieve relevant passages that answer the query.\n<query>", ""
)
# The colon is the wide one of Chinese texts.
_BGE_ZH = Prefixes("为这个句子生成表示以用于检索相关文章\uff1a", "")
_EMBEDDINGGEMMA = Prefixes("task: search result | query: ", "title: none | text: ")
_ARCTIC2 = Prefixes("query: ", "")
_JINA4 = Prefixes("Query: ", "Passage: ")


@pytest.mark.parametrize(
    ("model", "prefixes"),
    [
        ("nomic-embed-text", _NOMIC),
        ("nomic-embed-text:v1.5", _NOMIC),
        ("nomic-embed-text:137m-v1.5-fp16", _NOMIC),
        ("nomic-embed-text-v2-moe", _NOMIC),
        ("mxbai-embed-large", _REPRESENT),
        ("mxbai-embed-large:335m-v1-fp16", _REPRESENT),
        ("jeffh/intfloat-e5-base-v2:f16", _E5),
        ("e5-small", _E5),
        ("e5-large-v2", _E5),
        ("yxchia/multilingual-e5-base", _E5),
        ("jeffh/intfloat-multilingual-e5-large", _E5),
        ("qllama/multilingual-e5-small:q4_k_m", _E5),
        ("jeffh/intfloat-multilingual-e5-large-instruct:f32", _INSTRUCT),
        ("hellord/e5-mistral-7b-instruct:Q4_0", _INSTRUCT),
        ("bge-large", _REPRESENT),
        ("bge-large:335m", _REPRESENT),
        ("bge-large-en-v1.5", _REPRESENT),
        ("qllama/bge-small-en-v1.5:f16", _REPRESENT),
        ("hf.co/CompendiumLabs/bge-base-en-v1.5-gguf:Q8_0", _REPRESENT),
        ("quentinz/bge-large-zh-v1.5", _BGE_ZH),
        ("bge-small-zh", _BGE_ZH),
        ("hf.co/someone/bge-multilingual-gemma2-GGUF", _BGE_GEMMA),
        ("qwen3-embedding", _QWEN3),
        ("qwen3-embedding:0.6b", _QWEN3),
        ("dengcao/Qwen3-Embedding-0.6B:F16", _QWEN3),
        ("hf.co/Qwen/Qwen3-Embedding-8B-GGUF:Q4_K_M", _QWEN3),
        ("embeddinggemma", _EMBEDDINGGEMMA),
        ("embeddinggemma:300m", _EMBEDDINGGEMMA),
        ("hf.co/unsloth/embeddinggemma-300m-GGUF", _EMBEDDINGGEMMA),
        ("hf.co/unsloth/embeddinggemma-2-GGUF", _EMBEDDINGGEMMA),
        ("embeddinggemma2", _EMBEDDINGGEMMA),
        ("snowflake-arctic-embed", _REPRESENT),
        ("snowflake-arctic-embed:22m", _REPRESENT),
        ("snowflake-arctic-embed:137m-m-long-fp16", _REPRESENT),
        ("hf.co/Snowflake/snowflake-arctic-embed-m-v1.5", _REPRESENT),
        ("hf.co/someone/snowflake-arctic-embed-m-long-GGUF", _REPRESENT),
        ("snowflake-arctic-embed2", _ARCTIC2),
        ("Snowflake-Arctic-Embed2", _ARCTIC2),
        ("snowflake-arctic-embed2:568m", _ARCTIC2),
        ("Definity/snowflake-arctic-embed-l-v2.0-q8_0", _ARCTIC2),
        ("hf.co/someone/snowflake-arctic-embed-m-v2.0-GGUF:Q8_0", _ARCTIC2),
        ("rjmalagon/gte-qwen2-1.5b-instruct-embed-f16", _INSTRUCT),
        ("hf.co/someone/gte-Qwen1.5-7B-instruct-GGUF", _INSTRUCT),
        ("Losspost/stella_en_1.5b_v5", _STELLA),
        ("hf.co/someone/stella-en-400M-v5-GGUF", _STELLA),
        ("hf.co/jinaai/jina-embeddings-v4-text-retrieval-GGUF:Q4_K_M", _JINA4),
    ],
)
def test_a_model_gets_the_prefixes_of_its_family(model, prefixes):
    assert prefixes_of(model) == prefixes


@pytest.mark.parametrize(
    "model",
    [
        "nomic-embed-text",
        "nomic-embed-text:latest",
        "library/nomic-embed-text",
        "someone/nomic-embed-text",
        "registry.ollama.ai/library/nomic-embed-text:v1.5",
        "registry.example:5000/namespace/nomic-embed-text:latest",
        "https://registry.example/namespace/nomic-embed-text",
        "hf.co/nomic-ai/nomic-embed-text-v1.5-GGUF:Q8_0",
        "NOMIC-Embed-Text",
        "nomic_embed_text",
        "nomic-embed-text@sha256:0a109f422b47",
        "my-nomic-embed-text-tuned",
    ],
)
def test_registry_namespace_tag_case_and_suffix_do_not_matter(model):
    assert prefixes_of(model) == _NOMIC


def test_a_tag_that_names_the_model_counts():
    assert prefixes_of("znbang/bge:large-en-v1.5-f16") == _REPRESENT
    assert prefixes_of("znbang/bge:small-zh-v1.5-q8_0") == _BGE_ZH


def test_a_namespace_does_not_make_a_family():
    assert prefixes_of("nomic-embed-text/llama3") == _NONE
    assert prefixes_of("hf.co/mxbai-embed-large/all-minilm:latest") == _NONE


@pytest.mark.parametrize(
    "model",
    [
        "bge-m3",
        "bge-m3:567m",
        "chatfire/bge-m3:q8_0",
        "hf.co/someone/bge-large-zh-noinstruct",
        "all-minilm",
        "all-minilm:l6-v2",
        "paraphrase-multilingual",
        "granite-embedding:278m",
        "milkey/gte:large-zh-f16",
        "hf.co/someone/gte-large-en-v1.5-GGUF",
        "jina/jina-embeddings-v2-base-en",
        "hf.co/someone/jina-embeddings-v3-GGUF",
        "hf.co/jinaai/jina-embeddings-v4-text-matching-GGUF",
        # Its queries want a text after them, too.
        "hf.co/someone/bge-en-icl-GGUF",
    ],
)
def test_relatives_that_want_no_prefix_get_none(model):
    assert prefixes_of(model) == _NONE


@pytest.mark.parametrize(
    "model",
    [
        "",
        "/",
        ":",
        "llama3.2",
        "qwen3:0.6b",
        "dengcao/Qwen3-Reranker-0.6B",
        "qwen3-vl-embedding",
        "gemma3:4b",
        "nomic-embed-code",
        "deepset-mxbai-embed-de-large",
        "linux6200/bge-reranker-v2-m3",
        "bge-reranker-large",
        "movie5-base",
        "e5-v",
        "arctic-embedder",
        "snowflake-arctic",
        "snowflake-arctic-embed3",
        "snowflake-arctic-embed-l-v3.0",
    ],
)
def test_an_unknown_model_gets_no_prefix(model):
    assert prefixes_of(model) == _NONE


def test_prefixes_cannot_be_changed_for_everybody():
    with pytest.raises(dataclasses.FrozenInstanceError):
        prefixes_of("nomic-embed-text").query = "other"


def _rows():
    table = PAGE.read_text(encoding="utf-8").partition("| models | before a query |")[2].partition("\n\n")[0]
    for row in table.splitlines()[2:]:
        models, query, document = re.split(r"(?<!\\)\|", row.strip("|"))
        prefixes = Prefixes(*(_literal(cell.strip()) for cell in (query, document)))
        for model in re.findall(r"`([^`]+)`", models):
            yield pytest.param(model, prefixes, id=model)


def _literal(cell):
    return "" if cell == "none" else ast.literal_eval(cell.strip("`").replace("\\|", "|"))


@pytest.mark.parametrize(("model", "prefixes"), list(_rows()))
def test_the_table_of_the_docs_says_what_is_sent(model, prefixes):
    assert prefixes_of(model) == prefixes


def test_the_table_of_the_docs_has_all_prefixes():
    assert {prefixes for _, prefixes in (row.values for row in _rows())} == {each for _, each in _FAMILIES} | {_NONE}
