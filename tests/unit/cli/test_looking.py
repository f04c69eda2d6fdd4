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
    def test_a_table_has_sizes_for_people_and_relative_times(self, models):
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

    def test_what_is_piped_has_neither_colours_nor_spaces_at_the_ends_and_is_never_folded(self, models, simulator):
        long_name = f"{'n' * 80}:{'t' * 80}"
        assert models("cp", "embed", long_name).code == 0
        lines = models("list").out.splitlines()
        assert len(lines) == 4
        assert any(re.match(f"{long_name} +1 MB +512 ", line) for line in lines)
        assert not any("\x1b" in line or line.endswith(" ") for line in lines)

    def test_a_server_without_models_gives_the_headings_and_a_hint_beside_the_data(self, models, simulator):
        assert models("rm", "chat:8b", "embed").code == 0
        ended = models("list")
        assert (ended.code, len(ended.rows)) == (0, 1)
        assert "griptape-ollama models pull qwen3" in ended.err
        assert models("list", "--json").json == []

    def test_host_names_another_server_than_the_environment(self, models, simulator):
        assert models("list", "--host", simulator.host, OLLAMA_HOST="127.0.0.1:1").code == 0

    def test_an_empty_host_is_one_that_is_not_given(self, models):
        assert models("list", "--host", "").code == 0

    @pytest.mark.parametrize("given", [{"options": ["--api-key", "hush"]}, {"GRIPTAPE_OLLAMA_API_KEY": "hush"}])
    def test_a_key_that_is_given_is_sent_and_never_printed(self, models, simulator, given):
        simulator.fault("status", path="/api/tags", status=401, error="unauthorized")
        ended = models("list", *given.pop("options", []), **given)
        assert simulator.requests[-1].headers["Authorization"] == "Bearer hush"
        assert ended.code == 6
        assert "hush" not in ended.out + ended.err

    def test_the_key_of_ollama_com_goes_to_no_other_server(self, models, simulator):
        assert models("list", OLLAMA_API_KEY="hush").code == 0
        assert "Authorization" not in simulator.requests[-1].headers


class TestShow:
    def test_it_tells_what_a_model_can_do_and_what_it_has_of_its_own(self, models):
        ended = models("show", "chat:8b")
        assert (ended.code, ended.err) == (0, "")
        facts = {row[0]: row[1] for row in ended.rows if len(row) == 2}
        assert facts["Model"] == "chat:8b"
        assert facts["Capabilities"] == "completion, tools"
        assert facts["Context length"] == "40960"
        assert facts["System prompt"] == "You are kind."
        assert ["And brief: ähem."] in ended.rows
        assert facts["License"] == "MIT License"
        said = " ".join(ended.out.split())
        assert 'stop ["<|im_end|>", "\\n"]' in said
        assert "temperature 0.6" in said
        assert "Made from" not in facts

    def test_json_has_everything(self, models):
        shown = models("show", "chat:8b", "--json").json
        assert shown["parameters"] == {"temperature": 0.6, "stop": ["<|im_end|>", "\n"]}
        assert shown["system"] == "You are kind.\nAnd brief: ähem."
        assert shown["license"].startswith("MIT License\nCopyright")
        assert shown["template"]
        assert shown["modelfile"]

    def test_a_text_of_the_server_does_not_steer_the_terminal(self, models):
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
