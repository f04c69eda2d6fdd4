"""`models list`, `models show`, `models ps`."""

import re
from datetime import datetime

import pytest

from griptape_ollama.testing import OllamaSimulator, SimulatedModel

NOON = 1_700_000_000 * 10**9
CHAT = SimulatedModel(
    name="chat:8b",
    context_length=40960,
    size=5_225_388_164,
    size_vram=2_508_186_318,
    parameters={"temperature": 0.6, "stop": ["<|im_end|>", "\n"]},
    system="You are kind.\nAnd brief: ähem.",
    license=("MIT License\nCopyright ...",),
    modified_at=NOON,
)
EMBED = SimulatedModel(name="embed", capabilities=("embedding",), context_length=512, size=999_999)


@pytest.fixture
def simulator():
    with OllamaSimulator(models=[CHAT, EMBED]) as simulator:
        yield simulator


class TestList:
    def test_a_table_has_readable_sizes_and_relative_times(self, models):
        ended = models("list")
        assert (ended.code, ended.err) == (0, "")
        headings, *rows = ended.rows
        assert headings == ["NAME", "SIZE", "CONTEXT", "MODIFIED", "CAPABILITIES"]
        (chat,) = [row for row in rows if row[0] == "chat:8b"]
        (embed,) = [row for row in rows if row[0] == "embed:latest"]
        assert (chat[1:3], chat[4]) == (["5.23 GB", "40960"], "completion, tools")
        assert chat[3].endswith(" ago")
        assert (embed[1:3], embed[4]) == (["1 MB", "512"], "embedding")

    def test_json_has_bytes_and_iso_times(self, models):
        ended = models("list", "--json")
        (chat,) = [entry for entry in ended.json if entry["name"] == "chat:8b"]
        assert (chat["size"], chat["capabilities"]) == (5_225_388_164, ["completion", "tools"])
        assert datetime.fromisoformat(chat["modified_at"]).timestamp() == 1_700_000_000
        assert len(chat["digest"]) == 64
        assert "raw" not in chat

    def test_piped_output_has_no_colours_no_trailing_spaces_and_is_never_wrapped(self, models, simulator):
        long_name = f"{'n' * 80}:{'t' * 80}"
        assert models("cp", "embed", long_name).code == 0
        lines = models("list").out.splitlines()
        assert len(lines) == 4
        assert any(re.match(f"{long_name} +1 MB +512 ", line) for line in lines)
        assert not any("\x1b" in line or line.endswith(" ") for line in lines)

    def test_a_server_without_models_prints_headings_and_a_hint_on_the_standard_error(self, models, simulator):
        assert models("rm", "chat:8b", "embed").code == 0
        ended = models("list")
        assert (ended.code, len(ended.rows)) == (0, 1)
        assert "griptape-ollama models pull qwen3" in ended.err
        assert models("list", "--json").json == []


class TestShow:
    def test_it_prints_capabilities_and_settings_of_a_model(self, models):
        ended = models("show", "chat:8b")
        assert (ended.code, ended.err) == (0, "")
        facts = {row[0]: row[1] for row in ended.rows if len(row) == 2}
        assert facts["Model"] == "chat:8b"
        assert facts["Capabilities"] == "completion, tools"
        assert facts["Context length"] == "40960"
        assert facts["System prompt"] == "You are kind."
        assert ["And brief: ähem."] in ended.rows
        assert facts["License"] == "MIT License"
        output = " ".join(ended.out.split())
        assert 'stop ["<|im_end|>", "\\n"]' in output
        assert "temperature 0.6" in output
        assert "Made from" not in facts

    def test_json_has_everything(self, models):
        shown = models("show", "chat:8b", "--json").json
        assert shown["parameters"] == {"temperature": 0.6, "stop": ["<|im_end|>", "\n"]}
        assert shown["system"] == "You are kind.\nAnd brief: ähem."
        assert shown["license"].startswith("MIT License\nCopyright")
        assert shown["template"]
        assert shown["modelfile"]

    def test_control_characters_of_the_server_are_escaped(self, models):
        models("create", "evil", "--from", "chat:8b", "--system", "\x1b[2Jgone\x07")
        out = models("show", "evil").out
        assert "\\x1b[2Jgone\\x07" in out
        assert "\x1b" not in out


class TestPs:
    def test_it_tells_what_is_on_the_gpu_and_when_it_goes(self, models):
        models("warm", "chat:8b", "--keep-alive", "30m")
        models("warm", "embed", "--keep-alive", "-1")
        headings, *rows = models("ps").rows
        assert headings == ["NAME", "SIZE", "ON GPU", "CONTEXT", "EXPIRES"]
        (chat,) = [row for row in rows if row[0] == "chat:8b"]
        (embed,) = [row for row in rows if row[0] == "embed:latest"]
        assert chat[2].endswith("%")
        assert (chat[2] != "0%", chat[4]) == (True, "in 30 minutes")
        assert (embed[2], embed[4]) == ("0%", "never")

    def test_json_has_the_share_as_a_number(self, models):
        models("warm", "chat:8b")
        (chat,) = models("ps", "--json").json
        assert chat["gpu_share"] == pytest.approx(chat["size_vram"] / chat["size"])
        assert chat["stays_for_good"] is False
        assert datetime.fromisoformat(chat["expires_at"]).tzinfo

    def test_nothing_in_memory_is_no_error(self, models):
        assert models("ps").rows == [["NAME", "SIZE", "ON GPU", "CONTEXT", "EXPIRES"]]
        assert models("ps", "--json").json == []
