"""What the server tells of its models, read from recordings of a real one and from odd replies."""

import dataclasses
import json
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path

import pytest

from griptape_ollama import OllamaModels
from griptape_ollama.models.types import LoadedModel, ModelDetails, ModelInfo, TransferResult, parse_time

_RECORDINGS = Path(__file__).parents[2] / "contract" / "recordings" / "0.33.0-rc2"


def _body(name):
    return json.loads((_RECORDINGS / f"{name}.json").read_text())["response"]["body"]


def test_an_installed_model_is_read_whole():
    entry = next(each for each in _body("tags")["models"] if each["name"] == "tiny-utf8:latest")
    assert ModelInfo.from_tags(entry) == ModelInfo(
        name="tiny-utf8:latest",
        digest="5e4b067ea984a07d301ce077935f5482d33e10bcf02a30689f247682296c3a7a",
        size=1_735_636,
        modified_at=datetime(2026, 11, 20, 8, 44, 31, 306498, tzinfo=timezone.utc),
        family="llama",
        parameter_size="431K",
        quantization_level="unknown",
        format="gguf",
        capabilities=frozenset({"completion"}),
        context_length=8192,
        embedding_length=384,
    )


def test_a_loaded_model_is_read_whole():
    assert LoadedModel.from_ps(_body("ps_loaded")["models"][0]) == LoadedModel(
        name="tiny-chat:latest",
        digest="9ddfc385ed86f14e192050baac29889ca115efb4a51a6d1d02c002a9347cc8f6",
        size=11_618_221,
        size_vram=0,
        expires_at=datetime(2026, 11, 20, 8, 54, 41, 495928, tzinfo=timezone.utc),
        context_length=4096,
        family="llama",
        parameter_size="706K",
        quantization_level="unknown",
        format="gguf",
    )


def test_a_model_in_full_is_read_whole():
    shown = ModelDetails.from_show("tiny-embed", _body("show_tiny-embed"))
    assert (shown.name, shown.family, shown.capabilities) == ("tiny-embed", "bert", frozenset({"embedding"}))
    assert (shown.context_length, shown.embedding_length, shown.parameter_count) == (512, 64, 111_744)
    assert shown.template == "{{ .Prompt }}"
    assert shown.modelfile.startswith("# Modelfile")
    assert (shown.can("embedding"), shown.can("completion")) == (True, False)
    derived = ModelDetails.from_show("x", _body("show_derived"))
    assert (derived.system, derived.parameters["temperature"], derived.parent_model) == (
        "Derived.",
        0.2,
        "tiny-chat:latest",
    )
    assert derived.modified_at.tzinfo is not None


def test_models_with_the_same_weights_are_known_by_their_file():
    weights = {
        name: ModelDetails.from_show(name, _body(f"show_{name}")).weights
        for name in ("tiny-chat", "derived", "tiny-vision", "tiny-embed")
    }
    # The one with vision has a second file, for images.
    assert weights["tiny-chat"] == weights["derived"] == weights["tiny-vision"]
    assert weights["tiny-chat"] == "7ec764e0555d5bb61befc3bdb9b4ccf99c504732f9b758a9979f4d5f6665b57d"
    assert weights["tiny-embed"] != weights["tiny-chat"]
    assert ModelDetails.from_show("m", {"modelfile": "FROM llama3\n"}).weights is None


def test_a_model_that_stays_for_good_is_recognised():
    forever, *others = _body("ps_forever")["models"]
    assert LoadedModel.from_ps(forever).stays_for_good
    assert not any(LoadedModel.from_ps(other).stays_for_good for other in others)
    assert not LoadedModel("m").stays_for_good


@pytest.mark.parametrize(
    ("size", "size_vram", "share"), [(100, 0, 0.0), (100, 25, 0.25), (100, 100, 1.0), (100, 130, 1.0), (0, 0, 0.0)]
)
def test_the_share_on_gpus_is_between_0_and_1(size, size_vram, share):
    assert LoadedModel("m", size=size, size_vram=size_vram).gpu_share == share


@pytest.mark.parametrize("odd", [None, 7, "x", [], True])
def test_what_is_odd_is_left_at_its_default(odd):
    fields = {
        name: odd
        for name in ("size", "size_vram", "digest", "details", "capabilities", "expires_at", "modified_at", "messages",
                     "context_length", "model_info", "parameters", "system", "template", "remote_host")
        if not (name == "size" and isinstance(odd, int))
    }  # fmt: skip
    for made in (
        ModelInfo.from_tags({"name": "m", **fields}),
        LoadedModel.from_ps({"name": "m", **fields}),
        ModelDetails.from_show("m", fields),
    ):
        assert made.name == "m"
        assert made.family == ""
        assert hash(made.name) is not None
    assert ModelInfo.from_tags({"name": "m", **fields}).modified_at is None
    assert LoadedModel.from_ps({"name": "m", **fields}).expires_at is None


def test_older_servers_send_fewer_fields():
    old = ModelInfo.from_tags({"name": "m", "size": 5, "details": {"family": "llama"}})
    assert (old.capabilities, old.context_length, old.modified_at, old.remote_host) == (None, None, None, None)
    assert ModelDetails.from_show("m", {}).can("tools")


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-11-20T08:44:31Z", datetime(2026, 11, 20, 8, 44, 31, tzinfo=timezone.utc)),
        ("2026-11-20T08:44:31.5Z", datetime(2026, 11, 20, 8, 44, 31, 500_000, tzinfo=timezone.utc)),
        ("2026-11-20T08:44:31.306498942Z", datetime(2026, 11, 20, 8, 44, 31, 306_498, tzinfo=timezone.utc)),
        (
            "2026-11-20T08:44:31.30649+05:30",
            datetime(2026, 11, 20, 8, 44, 31, 306_490, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        ),
        ("2026-11-20T08:44:31", datetime(2026, 11, 20, 8, 44, 31, tzinfo=timezone.utc)),
        ("0001-01-01T00:00:00Z", None),
        ("yesterday", None),
        ("", None),
        (None, None),
        (1_700_000_000, None),
    ],
)
def test_times_have_their_zone(text, time):
    assert parse_time(text) == time
    assert time is None or parse_time(text).utcoffset() == time.utcoffset()


def test_results_cannot_be_changed():
    info = ModelInfo("m", digest="d")
    with pytest.raises(dataclasses.FrozenInstanceError):
        info.name = "other"
    assert TransferResult("pull", info, "d", 0, 1, 0.5).is_unchanged
    assert not TransferResult("pull", info, None, 0, 1, 0.5).is_unchanged


class TestClock:
    """Times of a server whose clock is another than ours."""

    @staticmethod
    def _loaded(simulator, *, ahead, expires):
        now = datetime.now(timezone.utc) + timedelta(seconds=ahead)
        entry = {"name": "m:latest", "expires_at": expires(now)}
        headers = {"Date": format_datetime(now, usegmt=True)}
        simulator.reply(path="/api/ps", body={"models": [entry]}, headers=headers)
        (loaded,) = OllamaModels(host=simulator.url).loaded()
        return (loaded.expires_at - datetime.now(timezone.utc)).total_seconds(), loaded

    @pytest.mark.parametrize("ahead", [-86_400, -600, -3, 0, 3, 600, 7200, 86_400])
    def test_a_model_has_as_long_as_the_server_says_by_its_own_clock(self, simulator, ahead):
        left, _ = self._loaded(simulator, ahead=ahead, expires=lambda now: (now + timedelta(seconds=290)).isoformat())
        assert 280 < left <= 292

    @pytest.mark.parametrize("hours", [-8, 5.5, 14])
    def test_the_zone_that_a_server_writes_makes_no_difference(self, simulator, hours):
        zone = timezone(timedelta(hours=hours))
        left, _ = self._loaded(
            simulator, ahead=600, expires=lambda now: (now + timedelta(seconds=290)).astimezone(zone).isoformat()
        )
        assert 280 < left <= 292

    def test_a_model_that_stays_for_good_does_so_by_any_clock(self, simulator):
        _, loaded = self._loaded(simulator, ahead=-600, expires=lambda _: "2318-09-11T10:05:42.123456789Z")
        assert loaded.stays_for_good

    @pytest.mark.parametrize("date", ["", "soon", "Thu, 01 Jan 1970 00:00:10 GMT"])
    def test_without_a_clock_of_the_server_ours_counts(self, simulator, date):
        expires = (datetime.now(timezone.utc) + timedelta(seconds=290)).isoformat()
        body = {"models": [{"name": "m", "expires_at": expires}]}
        simulator.reply(path="/api/ps", body=body, headers={"Date": date} if date else {})
        (loaded,) = OllamaModels(host=simulator.url).loaded()
        assert 270 < (loaded.expires_at - datetime.now(timezone.utc)).total_seconds() <= 292
