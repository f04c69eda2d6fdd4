"""Fields that subclasses declare again, as users of attrs do, and class attributes in place of a default."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, cast, get_type_hints

import attrs
from attrs.converters import pipe

_Field: Any = attrs.field().__class__


class FieldOverrides:
    """Replaces inherited fields by those that a subclass declares again.

    Some fields are stored under a name with an underscore, beside a property that computes a value if none was set.
    A subclass declares such a field under its public name, and it is moved here to the name under which it is stored.
    The declaration inherits the converter, whether the value is stored, and that a secret is not shown. A plain class
    attribute is the default of the constructor, also if the class is not decorated.
    """

    __field_defaults__: ClassVar[Mapping[str, Any]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Process the body of a class before attrs does."""
        super().__init_subclass__(**kwargs)
        if "__attrs_attrs__" not in vars(cls):  # else attrs builds it a second time, with slots
            _Body(cls).adopt()

    @classmethod
    def __attrs_init_subclass__(cls) -> None:
        """Complete a class that attrs has built."""
        own = {name for name, each in _by_argument(attrs.fields(cls)).items() if not each.inherited}
        cls.__field_defaults__ = {name: value for name, value in cls.__field_defaults__.items() if name not in own}
        _restore_properties(cls)
        name = "__attrs_init__" if "__attrs_init__" in vars(cls) else "__init__"
        if name in vars(cls):
            setattr(cls, name, _with_class_defaults(cls, vars(cls)[name]))


def chosen(driver: Any, name: str, own: property) -> Any:
    """Return the value that was set for a field beside a property; None if none was.

    Args:
        driver: The object.
        name: Public name of the field.
        own: The property. If a subclass or a test replaced it, the value of the replacement counts.
    """
    kind = cast("type[Any]", type(driver))
    return getattr(driver, f"_{name}" if getattr(kind, name) is own else name)


class _Body:
    """The declarations in the body of a class, and in those of the mixins before its driver class."""

    def __init__(self, cls: type[Any]) -> None:
        self._cls = cls
        self._known = _init_fields(cls)
        self._annotations = dict(inspect.get_annotations(cls))
        self._own = {
            name: vars(cls).get(name, attrs.NOTHING)
            for name in self._known
            if name in self._annotations or name in vars(cls)
        }
        self._defaults = dict(cls.__field_defaults__)

    def adopt(self) -> None:
        """Move and complete the declarations, and set the defaults of the constructor."""
        for mixin in reversed(_mixins_before_driver(self._cls)):
            self._adopt_mixin(mixin)
        for name, value in self._own.items():
            self._adopt_own(name, value)
        self._cls.__annotations__ = self._annotations
        self._cls.__field_defaults__ = self._defaults
        _restore_properties(self._cls)

    def _adopt_own(self, name: str, value: Any) -> None:
        is_field = isinstance(value, _Field)
        if "ClassVar" in str(self._annotations.get(name)):
            del self._annotations[name]  # Griptape would take it for the type of the field
        is_annotated = name in self._annotations
        if not is_annotated and not is_field and _is_descriptor(value):
            return  # a property or a method
        if not is_field and value is not attrs.NOTHING:
            self._defaults[name] = value
        if is_annotated or is_field:
            self._declare(name, value if is_field else attrs.field(default=value))
        elif self._known[name].name != name:
            delattr(self._cls, name)

    def _declare(self, name: str, field: Any) -> None:
        base = self._known[name]
        field.converter = _piped(field.converter, base.converter)
        field.metadata = {**base.metadata, **field.metadata}
        if base.repr is False:
            field.repr = False
        if base.eq is False:
            field.eq = field.order = False
        if base.name != name:
            field.alias = field.alias or name
            if name in vars(self._cls):
                delattr(self._cls, name)
        if name in self._annotations:
            # The stored value has the inherited type, whatever values a subclass accepts.
            kind = _inherited_type(self._cls, base.name, self._annotations[name])
            self._annotations = {
                base.name if each == name else each: kind if each == name else own
                for each, own in self._annotations.items()
            }
        setattr(self._cls, base.name, field)

    def _adopt_mixin(self, mixin: type[Any]) -> None:
        for name, value in vars(mixin).items():
            if name in self._known and not _is_descriptor(value):
                self._defaults[name] = value
        for name, each in _by_argument(vars(mixin).get("__attrs_attrs__", ())).items():
            if not each.inherited and name in self._known and name not in self._own:
                self._adopt_field_of_mixin(name, each)

    def _adopt_field_of_mixin(self, name: str, attribute: Any) -> None:
        self._annotations[name] = attribute.type or Any
        field = attrs.field(
            default=attribute.default,
            validator=attribute.validator,
            converter=attribute.converter,
            metadata=dict(attribute.metadata),
            repr=attribute.repr,
            kw_only=True,
        )
        self._declare(name, field)
        if self._known[name].name != name:
            # attrs would also collect the field of the mixin.
            self._annotations[name] = attribute.type or Any
            setattr(self._cls, name, attrs.field(init=False, repr=False, eq=False))


def _piped(own: Any, base: Any) -> Any:
    """Return a converter that applies that of the subclass, and then that of the driver."""
    if own is None or base is None:
        return own or base
    if isinstance(own, attrs.Converter):  # which may take the object
        return pipe(cast("Any", own), base)

    def convert(value: Any) -> Any:
        # A copy passes the converted value, which the converter of the subclass does not know.
        is_made = attrs.has(cast("type[Any]", type(value))) and base(value) is value
        return value if is_made else base(own(value))

    return convert


def _init_fields(cls: type[Any]) -> dict[str, Any]:
    """Return the fields that the constructors of the inherited drivers take, by argument."""
    drivers = [base for base in cls.__mro__[1:] if issubclass(base, FieldOverrides) and attrs.has(base)]
    fields: dict[str, Any] = {}
    for base in reversed(drivers):
        fields.update(_by_argument(attrs.fields(base)))
    return fields


def _by_argument(fields: Iterable[Any]) -> dict[str, Any]:
    """Return the fields that a constructor takes, by the name of the argument."""
    return {each.alias or each.name: each for each in fields if each.init}


def _inherited_type(cls: type[Any], name: str, own: Any) -> Any:
    """Return the type of an inherited field, or that of the subclass if its name cannot be resolved at run time."""
    bases = cls.__mro__[1 + len(_mixins_before_driver(cls)) :]
    declaring = next(base for base in bases if name in inspect.get_annotations(base))
    annotation = {name: inspect.get_annotations(declaring)[name]}
    # A type that is written as text can be resolved only in its own module.
    alone = type("Alone", (), {"__annotations__": annotation, "__module__": declaring.__module__})
    try:
        return get_type_hints(alone)[name]
    except NameError:
        return own


def _mixins_before_driver(cls: type[Any]) -> list[type[Any]]:
    bases = cls.__mro__[1:]
    first = next(index for index, base in enumerate(bases) if issubclass(base, FieldOverrides))
    return list(bases[:first])


def _is_descriptor(value: Any) -> bool:
    return hasattr(cast("type[Any]", type(value)), "__get__")


def _restore_properties(cls: type[Any]) -> None:
    """Restore properties of the drivers that attributes of mixins, or slots, hide."""
    for name, field in _init_fields(cls).items():
        if name == field.name:
            continue
        found = inspect.getattr_static(cls, name, None)
        is_replaced = isinstance(found, types.MemberDescriptorType) or not _is_descriptor(found)
        if is_replaced and not isinstance(found, _Field):
            bases = (vars(base).get(name) for base in cls.__mro__ if issubclass(base, FieldOverrides))
            setattr(cls, name, next(base for base in bases if isinstance(base, property)))


def _with_class_defaults(cls: type[Any], init: Callable[..., None]) -> Callable[..., None]:
    """Wrap a constructor that attrs wrote, so that class attributes of undecorated subclasses are its defaults."""
    by_place = [name for name, each in _by_argument(attrs.fields(cls)).items() if not each.kw_only]

    @functools.wraps(init)
    def with_class_defaults(self: Any, *args: Any, **settings: Any) -> None:
        given = {*by_place[: len(args)], *settings}
        defaults: Mapping[str, Any] = cast("type[Any]", type(self)).__field_defaults__
        more = {name: value for name, value in defaults.items() if name not in given}
        init(self, *args, **settings, **more)

    return with_class_defaults
