"""Subclasses that declare fields of a driver again, in each way that attrs and Griptape's users know."""

import copy
import pickle
from typing import Any, ClassVar
from unittest import mock

import attrs
import pytest
from griptape.artifacts import TextArtifact
from griptape.structures import Agent
from griptape.tokenizers import BaseTokenizer, SimpleTokenizer
from griptape.utils.decorators import lazy_property

from griptape_ollama import OllamaContentError, OllamaEmbeddingDriver, OllamaPromptDriver, OllamaTimeout

TOKENIZER = SimpleTokenizer(characters_per_token=3, max_input_tokens=1000, max_output_tokens=100)


@attrs.define
class Annotated(OllamaPromptDriver):
    temperature: float = 0.5
    use_native_tools: bool = False
    tokenizer: BaseTokenizer = TOKENIZER
    model: str = "simulator"
    max_tokens: int = 12
    stream: bool = True
    timeout: float = 33
    keep_alive: str = "10m"


@attrs.define
class WithFields(OllamaPromptDriver):
    temperature: float = attrs.field(default=0.5, kw_only=True)
    use_native_tools: bool = attrs.field(default=False, kw_only=True)
    tokenizer: BaseTokenizer = attrs.field(factory=lambda: TOKENIZER, kw_only=True)
    model: str = attrs.field(default="simulator", kw_only=True)
    max_tokens: int | None = attrs.field(default=12, metadata={"serializable": True})
    stream: bool = attrs.field(default=True)
    timeout: Any = attrs.field(default=33)
    keep_alive: Any = attrs.field(default="10m")


@attrs.define(kw_only=True, slots=False)
class Unannotated(OllamaPromptDriver):
    temperature = attrs.field(default=0.5)
    use_native_tools = attrs.field(factory=bool)
    model = attrs.field(default="SIMULATOR", converter=str.lower)
    max_tokens = attrs.field(default="12", converter=int)
    stream = attrs.field(default=True)
    timeout = attrs.field(default="33", converter=float)
    keep_alive = attrs.field(default=attrs.Factory(lambda self: f"{self.max_tokens - 2}m", takes_self=True))
    tokenizer = attrs.field(
        default=attrs.Factory(
            lambda self: SimpleTokenizer(
                characters_per_token=self.max_tokens // 4, max_input_tokens=1000, max_output_tokens=100
            ),
            takes_self=True,
        )
    )


class ClassAttributes(OllamaPromptDriver):
    temperature = 0.5
    use_native_tools: bool = False
    tokenizer = TOKENIZER
    model: str = "simulator"
    max_tokens: ClassVar[int] = 12
    stream = True
    timeout: float = 33
    keep_alive = "10m"


@attrs.define
class DecoratedWithClassAttributes(OllamaPromptDriver):
    temperature = 0.5
    use_native_tools: ClassVar[bool] = False
    tokenizer = TOKENIZER
    model = "simulator"
    max_tokens = 12
    stream = True
    timeout = 33
    keep_alive = "10m"


@attrs.define
class Grandchild(ClassAttributes):
    tone: str = "plain"


class Defaults:
    temperature = 0.5
    use_native_tools = False
    tokenizer = TOKENIZER
    max_tokens = 12
    timeout = 33


@attrs.define
class WithMixin(Defaults, OllamaPromptDriver):
    model: str = "simulator"
    stream: bool = True
    keep_alive: str = "10m"


@attrs.define(slots=False)
class FieldsOfMixin:
    temperature: float = 0.5
    use_native_tools: bool = attrs.field(default=False)
    tokenizer: BaseTokenizer = TOKENIZER
    max_tokens: int = 12
    timeout: float = 33


@attrs.define
class WithAttrsMixin(FieldsOfMixin, OllamaPromptDriver):
    model: str = "simulator"
    stream: bool = True
    keep_alive: str = "10m"


@attrs.define(slots=False)
class WithAttrsMixinAndDict(FieldsOfMixin, OllamaPromptDriver):
    model: str = "simulator"
    stream: bool = True
    keep_alive: str = "10m"


class OwnConstructor(OllamaPromptDriver):
    def __init__(self, **settings):
        given = {"temperature": 0.5, "use_native_tools": False, "tokenizer": TOKENIZER, "model": "simulator"}
        more = {"max_tokens": 12, "stream": True, "timeout": 33, "keep_alive": "10m"}
        super().__init__(**{**given, **more, **settings})


KINDS = [
    Annotated,
    WithFields,
    Unannotated,
    ClassAttributes,
    DecoratedWithClassAttributes,
    Grandchild,
    WithMixin,
    WithAttrsMixin,
    WithAttrsMixinAndDict,
    OwnConstructor,
]
_SHOWN = {
    "temperature": 0.5,
    "use_native_tools": False,
    "model": "simulator",
    "max_tokens": 12,
    "stream": True,
    "timeout": OllamaTimeout.of(33),
    "keep_alive": "10m",
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def _shown(driver):
    return {name: getattr(driver, name) for name in _SHOWN}


@each_kind
def test_what_a_subclass_declares_is_shown_and_sent(simulator, weather_tool, kind):
    driver = kind(host=simulator.url)
    assert _shown(driver) == _SHOWN
    assert type(driver.tokenizer) is SimpleTokenizer
    assert driver.tokenizer.characters_per_token == 3
    Agent(prompt_driver=driver, tools=[weather_tool]).run("Hi")
    request = simulator.last_chat
    assert (request.options["temperature"], request.options["num_predict"]) == (0.5, 12)
    assert request.body["keep_alive"] == "10m"
    assert "tools" not in request.body


@each_kind
@pytest.mark.parametrize(
    "load",
    [
        copy.copy,
        copy.deepcopy,
        attrs.evolve,
        lambda driver: pickle.loads(pickle.dumps(driver)),  # noqa: S301 # our own
        lambda driver: type(driver).from_dict(driver.to_dict()),
        lambda driver: type(driver).from_json(driver.to_json()),
        lambda driver: driver.with_settings(num_ctx="auto"),
    ],
    ids=["copy", "deepcopy", "evolve", "pickle", "dict", "json", "with_settings"],
)
def test_what_a_subclass_declares_and_what_it_was_given_survives(kind, load):
    assert _shown(load(kind())) == _SHOWN
    assert load(kind()) == kind()
    given = {
        **_SHOWN,
        "temperature": 0.9,
        "use_native_tools": True,
        "model": "other",
        "max_tokens": 5,
        "keep_alive": -1,
    }
    assert _shown(load(kind(**given))) == given
    assert load(kind(**given)) != kind()


@each_kind
def test_a_setting_of_a_subclass_can_be_changed(kind):
    driver = kind()
    driver.temperature, driver.use_native_tools, driver.timeout = 0.9, True, 5
    assert (driver.temperature, driver.use_native_tools, driver.timeout) == (0.9, True, OllamaTimeout.of(5))
    twin = kind().with_settings(temperature=0.9, use_native_tools=True, timeout=5)
    assert (twin.temperature, twin.use_native_tools, twin.timeout) == (0.9, True, OllamaTimeout.of(5))
    assert attrs.evolve(kind(), temperature=0.7).temperature == 0.7


@each_kind
def test_a_subclass_leaves_the_class_that_it_derives_from_alone(kind):
    kind().to_dict()
    driver = OllamaPromptDriver(model="m")
    back = OllamaPromptDriver.from_dict(driver.to_dict())
    assert (back.temperature, back.max_tokens, back.stream, back.timeout) == (0.1, None, False, None)
    assert back == driver


def test_a_value_of_a_subclass_that_cannot_be_sent_is_refused():
    @attrs.define
    class Wrong(OllamaPromptDriver):
        keep_alive: str = "for a while"

    with pytest.raises(OllamaContentError, match="keep_alive"):
        Wrong(model="m")


def test_a_secret_that_a_subclass_declares_is_neither_shown_nor_stored():
    @attrs.define
    class Secretive(OllamaPromptDriver):
        api_key: str = "hunter2"
        headers: dict = attrs.field(factory=lambda: {"X-Token": "hunter3"})

    driver = Secretive(model="m")
    assert (driver.api_key, driver.headers) == ("hunter2", {"X-Token": "hunter3"})
    assert "hunter" not in repr(driver) + driver.to_json()


def test_a_client_and_a_host_of_a_subclass_are_used(simulator, make_client):
    client = make_client()

    @attrs.define
    class WithClient(OllamaPromptDriver):
        client: Any = attrs.field(factory=lambda: client)
        model: str = "simulator"

    @attrs.define
    class WithHost(OllamaPromptDriver):
        host: str = simulator.url
        model: str = "simulator"

    for kind in (WithClient, WithHost):
        assert kind().run(TextArtifact("Hi")).to_text()
        assert kind().host == simulator.url
    assert WithClient().client is client


def test_a_field_without_a_default_has_to_be_given():
    @attrs.define
    class Strict(OllamaPromptDriver):
        model: str
        temperature: float

    with pytest.raises(TypeError, match="temperature"):
        Strict("simulator")
    driver = Strict("simulator", 0.3)
    assert (driver.model, driver.temperature) == ("simulator", 0.3)


def test_a_positional_value_takes_the_place_of_a_class_attribute():
    @attrs.define
    class Toned(OllamaPromptDriver):
        tone: str = "plain"
        max_tokens: int = 5

    class Warm(Toned):
        max_tokens = 7

    assert (Warm("warm", model="m").max_tokens, Warm("warm", 9, model="m").max_tokens) == (7, 9)


def test_validators_and_defaults_by_decorator_work():
    @attrs.define
    class Checked(OllamaPromptDriver):
        temperature: float = attrs.field()

        @temperature.default
        def _temperature_of_model(self):
            return 0.25

        @temperature.validator
        def _is_low(self, _, value):
            if value > 0.5:
                raise ValueError("too warm")

    assert Checked(model="m").temperature == 0.25
    with pytest.raises(ValueError, match="too warm"):
        Checked(model="m", temperature=0.9)


def test_properties_of_a_subclass_count(simulator, weather_tool):
    class Own(OllamaPromptDriver):
        @property
        def temperature(self):
            return 0.75

        @property
        def use_native_tools(self):
            return False

        @lazy_property()
        def tokenizer(self):
            return TOKENIZER

    driver = Own(model="simulator", host=simulator.url)
    Agent(prompt_driver=driver, tools=[weather_tool]).run("Hi")
    assert simulator.last_chat.options["temperature"] == 0.75
    assert "tools" not in simulator.last_chat.body
    assert driver.tokenizer is TOKENIZER


def test_a_setting_that_was_not_given_is_found_in_a_subclass_too(simulator):
    @attrs.define
    class Other(OllamaPromptDriver):
        max_tokens: int = 5

    driver = Other(model="simulator", host=simulator.url)
    assert driver.use_native_tools is True
    assert driver.temperature == 0.1
    assert attrs.evolve(driver).to_dict()["temperature"] is None
    assert attrs.evolve(driver).to_dict()["use_native_tools"] is None


@pytest.mark.parametrize(
    ("name", "value"), [("temperature", 0.9), ("use_native_tools", False), ("tokenizer", TOKENIZER)]
)
def test_a_test_may_replace_what_is_found_out(simulator, name, value):
    driver = OllamaPromptDriver(model="simulator", host=simulator.url)
    before = getattr(driver, name)
    with mock.patch.object(driver, name, value):
        assert getattr(driver, name) is value
    assert getattr(driver, name) == before
    with mock.patch.object(OllamaPromptDriver, name, value):
        assert getattr(driver, name) is value


def test_post_init_hooks_of_mixins_and_subclasses_run():
    class Mixin:
        def __attrs_post_init__(self):
            self.noted = ["mixin"]
            super().__attrs_post_init__()

    @attrs.define
    class Hooked(Mixin, OllamaEmbeddingDriver):
        noted: list = attrs.field(init=False)
        is_ready: bool = attrs.field(default=False, init=False)

        def __attrs_post_init__(self):
            super().__attrs_post_init__()
            self.is_ready = True

    driver = Hooked(model="m")
    assert (driver.noted, driver.is_ready, driver.chunker) == (["mixin"], True, None)


def test_fields_of_an_embedding_driver_can_be_declared_again(simulator):
    @attrs.define
    class Mine(OllamaEmbeddingDriver):
        model: str = attrs.field(default="simulator-embed", kw_only=True)
        dimensions: int = attrs.field(default=8, kw_only=True)
        tokenizer: BaseTokenizer = attrs.field(factory=lambda: TOKENIZER, kw_only=True)
        max_attempts: int = attrs.field(default=1, kw_only=True)

    driver = Mine(host=simulator.url)
    assert len(driver.embed("Hi")) == 8
    back = Mine.from_dict(Mine(host=simulator.url, dimensions=4).to_dict())
    assert (back.dimensions, back.model, back.max_attempts) == (4, "simulator-embed", 1)


@pytest.mark.parametrize("kind", [OllamaPromptDriver, OllamaEmbeddingDriver])
def test_drivers_can_be_mocked_by_their_spec(simulator, kind):
    driver = kind(model="simulator", host=simulator.url)
    for spec in (kind, driver):
        assert isinstance(mock.Mock(spec=spec), kind)
        assert isinstance(mock.create_autospec(spec, instance=True), kind)
