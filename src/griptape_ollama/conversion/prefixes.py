"""The prefixes that embedding models expect before a query and before a document, by the name of the model.

Many were trained with a fixed text before their inputs, and find less without it. The server adds none: `/api/embed`
passes each input to the runner unchanged, and a TEMPLATE of the model plays no part (EmbedHandler, server 0.33.0-rc2).
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Prefixes:
    """Texts to put before an input, with every blank and line break that belongs to them.

    Attributes:
        query: Before the query of a search.
        document: Before a document.
    """

    query: str = ""
    document: str = ""


def prefixes_of(model: str) -> Prefixes:
    """Return the prefixes that a model was trained with, for retrieval.

    Args:
        model: Name as the server takes it, in any case: registry, namespace and tag may be there or not.

    Returns:
        The prefixes of the model's family; two empty ones where the family needs none or is not known.
    """
    # The tag belongs to the name: `znbang/bge:small-en-v1.5-q8_0` says only there which model it is.
    name = model.rpartition("/")[2].lower().replace(":", "-").replace("_", "-")
    return next((prefixes for family, prefixes in _FAMILIES if family.search(name)), Prefixes())


def _family(pattern: str) -> re.Pattern[str]:
    """Match whole words of a name: `e5-base` is not in `movie5-base`, nor `arctic-embed` in `arctic-embed2`."""
    return re.compile(rf"(?<![a-z0-9])(?:{pattern})(?![a-z0-9])")


_REPRESENT = Prefixes(query="Represent this sentence for searching relevant passages: ")
_E5 = Prefixes(query="query: ", document="passage: ")
# Such models take any task of one sentence; this is the one that their cards name for searching.
_WEB_SEARCH = "Given a web search query, retrieve relevant passages that answer the query"
_INSTRUCT = Prefixes(query=f"Instruct: {_WEB_SEARCH}\nQuery: ")

# The first family that matches counts. Each has its card as the source; in brackets, what else of the same makers the
# text was compared with.
#
# Not here, because they want no prefix: all-minilm, bge-m3, granite-embedding, gte-small, -base and -large,
# jina-embeddings-v2, paraphrase-multilingual. Not here, because a prefix is not enough: bge-en-icl (also a text after
# the query), bge-code-v1 (an instruction for each task), jina-embeddings-v3 (adapters for tasks; the server has none).
_FAMILIES: tuple[tuple[re.Pattern[str], Prefixes], ...] = (
    # https://huggingface.co/nomic-ai/nomic-embed-text-v1, .../nomic-embed-text-v1.5, .../nomic-embed-text-v2-moe-GGUF
    (_family(r"nomic-embed-text"), Prefixes(query="search_query: ", document="search_document: ")),
    # https://huggingface.co/mixedbread-ai/mxbai-embed-large-v1
    (_family(r"mxbai-embed-large"), _REPRESENT),
    # https://huggingface.co/intfloat/multilingual-e5-large-instruct, .../e5-mistral-7b-instruct
    (_family(r"e5-(?:large-instruct|mistral)"), _INSTRUCT),
    # https://huggingface.co/intfloat/e5-large-v2, .../multilingual-e5-large (github.com/microsoft/unilm, e5/)
    (_family(r"e5-(?:small|base|large)"), _E5),
    # https://huggingface.co/BAAI/bge-large-zh-v1.5 (github.com/FlagOpen/FlagEmbedding, README_zh.md): a wide colon and
    # no blank. One was trained without an instruction, as its name says.
    (
        _family(r"bge-(?:small|base|large)-zh(?!-noinstruct)"),
        Prefixes(query="为这个句子生成表示以用于检索相关文章："),  # noqa: RUF001 # as on the card
    ),
    # https://huggingface.co/BAAI/bge-large-en-v1.5 (github.com/FlagOpen/FlagEmbedding, README.md). Not verified: that
    # `bge-large` without a language, as in the library of Ollama, is the English one.
    (_family(r"bge-(?:small|base|large)-en|bge-large(?!-zh)"), _REPRESENT),
    # https://huggingface.co/BAAI/bge-multilingual-gemma2: a full stop after the task, unlike the rest.
    (_family(r"bge-multilingual-gemma2"), Prefixes(query=f"<instruct>{_WEB_SEARCH}.\n<query>")),
    # https://huggingface.co/Qwen/Qwen3-Embedding-0.6B (github.com/QwenLM/Qwen3-Embedding): no blank at the end.
    (_family(r"qwen3-embedding"), Prefixes(query=f"Instruct: {_WEB_SEARCH}\nQuery:")),
    # https://huggingface.co/google/embeddinggemma-300m (github.com/huggingface/transformers, conversion of gemma3).
    # Not verified at its card: embeddinggemma-2, which is used in the same way elsewhere.
    (
        _family(r"embedding-?gemma2?"),
        Prefixes(query="task: search result | query: ", document="title: none | text: "),
    ),
    # https://huggingface.co/Snowflake/snowflake-arctic-embed-l-v2.0, in the library of Ollama `snowflake-arctic-embed2`
    (_family(r"arctic-embed(?:2|-(?:[lm]-)?v2(?:\.0)?)"), Prefixes(query="query: ")),
    # https://huggingface.co/Snowflake/snowflake-arctic-embed-m, .../snowflake-arctic-embed-m-v1.5
    # (github.com/Snowflake-Labs/arctic-embed). The second version changed the prefix, so a third one is not guessed.
    (_family(r"arctic-embed(?!-(?:[a-z]+-)*v[2-9])"), _REPRESENT),
    # https://huggingface.co/Alibaba-NLP/gte-Qwen2-1.5B-instruct, .../gte-Qwen2-7B-instruct.
    # Not verified at its card, only in a copy: gte-Qwen1.5-7B-instruct.
    (_family(r"gte-qwen(?:1\.5|2)"), _INSTRUCT),
    # https://huggingface.co/NovaSearch/stella_en_400M_v5, .../stella_en_1.5B_v5: a full stop after the task.
    (_family(r"stella-en-[0-9.]+[mb]-v5"), Prefixes(query=f"Instruct: {_WEB_SEARCH}.\nQuery: ")),
    # https://huggingface.co/jinaai/jina-embeddings-v4-text-retrieval-GGUF: the adapter for retrieval is merged into it.
    (_family(r"jina-embeddings-v4-text-retrieval"), Prefixes(query="Query: ", document="Passage: ")),
)
