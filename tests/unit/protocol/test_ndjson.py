"""Framing: whatever the pieces, the same objects."""

import json
import math
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from griptape_ollama.protocol.ndjson import NdjsonDecoder, NdjsonError, decode_object
from griptape_ollama.protocol.stream_kinds import CHAT
from griptape_ollama.protocol.surrogates import replace_surrogates_in
from unit.hostile import peak_bytes

# Characters at which `str.splitlines` would cut, and characters of several bytes.
_TRICKY = st.sampled_from(
    ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\r", "é", "日本", "😀", "👩\u200d🚀", "\x00"]
)
_TEXT = st.lists(st.text() | _TRICKY).map("".join)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=10,
)
_END = b"\n"  # what a reader feeds at the end of a reply
_OBJECTS = st.lists(st.dictionaries(_TEXT, _VALUES, max_size=4), max_size=6)


def _decode(pieces, **settings):
    decoder = NdjsonDecoder(**settings)
    return [value for piece in [*pieces, _END] for value in decoder.feed(piece)]


def _cut(data, positions):
    edges = [0, *sorted(positions), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@given(objects=_OBJECTS, ends_with_newline=st.booleans(), ascii_only=st.booleans(), data=st.data())
def test_any_cuts_give_the_same_objects(objects, ends_with_newline, ascii_only, data):
    wire = "\n".join(json.dumps(each, ensure_ascii=ascii_only) for each in objects).encode()
    wire += b"\n" if ends_with_newline else b""
    positions = data.draw(st.lists(st.integers(0, len(wire)), max_size=12))
    assert _decode(_cut(wire, positions)) == objects


@given(_OBJECTS)
@example([{"content": "a\x85b\u2028c\u2029d\x0be\x0cf\x1cg😀"}])
def test_byte_by_byte_gives_the_same_objects(objects):
    wire = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in objects).encode()
    assert _decode([wire[i : i + 1] for i in range(len(wire))]) == objects


@pytest.mark.parametrize("character", ["\x85", "\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"])
def test_only_a_newline_ends_a_line(character):
    text = f"before{character}after"
    # Raw control characters below U+0020 are not JSON; servers escape them.
    wire = json.dumps({"content": text}, ensure_ascii=ord(character) < 0x20).encode() + b"\n"
    assert _decode([wire]) == [{"content": text}]


def test_an_object_is_yielded_as_soon_as_its_line_has_ended():
    decoder = NdjsonDecoder()
    assert list(decoder.feed(b'{"a":1}\n{"b"')) == [{"a": 1}]
    assert list(decoder.feed(b":2}\n")) == [{"b": 2}]


def test_a_character_that_is_cut_in_two_is_put_together():
    wire = '{"content":"😀"}\n'.encode()
    for position in range(len(wire)):
        assert _decode([wire[:position], wire[position:]]) == [{"content": "😀"}]


@pytest.mark.parametrize("wire", [b"", b"\n", b"\n\n\n", b"  \n\t\n\r\n", b" "])
def test_blank_lines_are_nothing(wire):
    assert _decode([wire]) == []


def test_lines_may_end_with_a_carriage_return_too():
    assert _decode([b'{"a":1}\r\n{"b":2}\r\n']) == [{"a": 1}, {"b": 2}]


def test_blank_lines_between_objects_are_skipped():
    assert _decode([b'{"a":1}\n\n \n{"b":2}']) == [{"a": 1}, {"b": 2}]


def test_a_last_line_without_newline_is_decoded_at_the_end():
    decoder = NdjsonDecoder()
    assert list(decoder.feed(b'{"a":1}\n{"done":true}')) == [{"a": 1}]
    assert list(decoder.feed(_END)) == [{"done": True}]
    assert list(decoder.feed(_END)) == []


def test_half_an_object_at_the_end_is_refused():
    decoder = NdjsonDecoder()
    assert list(decoder.feed(b'{"a":1}\n{"b":')) == [{"a": 1}]
    with pytest.raises(NdjsonError, match=r'got \'{"b":'):
        list(decoder.feed(_END))


@pytest.mark.parametrize("document", [b"", b" ", b"[]", b"<html>", b"{} {}", b"{}x"])
def test_a_document_that_is_not_one_object_is_refused(document):
    with pytest.raises(NdjsonError):
        decode_object(document)


@pytest.mark.parametrize("document", [b'{"a":1}', b' {"a":1}', b'{"a":1}\n', b'\r\n{"a":1} \t\r\n'])
def test_white_space_around_a_document_does_not_matter(document):
    assert decode_object(document) == {"a": 1}


@pytest.mark.parametrize(
    "line",
    [
        b"<html>502 Bad Gateway</html>",
        b"[1, 2]",
        b'"text"',
        b"null",
        b"true",
        b"42",
        b"{",
        b'{"a":1}{"b":2}',
        b"{'a':1}",
        b"data: {}",
        b"\xff\xfe{}",
        b'{"a":"\xc3"}',
        b"\x00",
    ],
)
def test_what_is_not_one_json_object_is_refused(line):
    with pytest.raises(NdjsonError, match="expected a JSON object, got"):
        _decode([line + b"\n"])


@pytest.mark.parametrize("line", [b"[" * 200_000, b'{"a":' * 200_000 + b"1" + b"}" * 200_000])
def test_nesting_without_end_is_refused_and_not_a_crash(line):
    with pytest.raises(NdjsonError):
        _decode([line + b"\n"])


def test_a_number_too_long_for_python_is_an_infinite_one():
    line = b'{"a":' + b"9" * 10_000 + b',"b":-' + b"9" * 10_000 + b',"c":12,"d":0.' + b"3" * 10_000 + b"}\n"
    assert _decode([line]) == [{"a": math.inf, "b": -math.inf, "c": 12, "d": 1 / 3}]
    with pytest.raises(NdjsonError):
        _decode([line.replace(b',"c"', b'"c"')])


def test_objects_before_a_bad_line_are_yielded():
    received = []
    with pytest.raises(NdjsonError):
        received.extend(NdjsonDecoder().feed(b'{"a":1}\n{"b":2}\ngarbage\n{"c":3}\n'))
    assert received == [{"a": 1}, {"b": 2}]


def test_the_error_quotes_the_beginning_of_the_line_only():
    with pytest.raises(NdjsonError) as caught:
        decode_object(b"<title>nginx</title>" + b"x" * 10_000)
    assert "<title>nginx</title>" in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("filler", [b"x", b" ", b"\t", b"\x00"])
def test_an_endless_line_raises_at_the_limit(filler):
    decoder = NdjsonDecoder(max_line_bytes=1000)
    for _ in range(10):
        assert list(decoder.feed(filler * 100)) == []
    with pytest.raises(NdjsonError, match="longer than 1,000 bytes"):
        list(decoder.feed(filler))


@given(st.lists(st.integers(0, 120), max_size=5))
def test_a_line_over_the_limit_is_refused_however_it_arrives(positions):
    line = b'{"content":"' + b"x" * 100 + b'"}\n'
    with pytest.raises(NdjsonError, match="longer than 60 bytes"):
        _decode(_cut(line, [min(position, len(line)) for position in positions]), max_line_bytes=60)


@given(st.lists(st.integers(0, 13), max_size=5))
def test_a_line_of_exactly_the_limit_is_accepted(positions):
    line = b'{"a":"0123"}'
    assert _decode(_cut(line + b"\n", positions), max_line_bytes=len(line)) == [{"a": "0123"}]


def test_the_limit_is_for_one_line_not_for_all():
    wire = b'{"a":1}\n' * 1000
    assert len(_decode([wire[i : i + 5] for i in range(0, len(wire), 5)], max_line_bytes=7)) == 1000


def test_objects_before_an_overlong_line_are_yielded():
    received = []
    with pytest.raises(NdjsonError):
        received.extend(NdjsonDecoder(max_line_bytes=10).feed(b'{"a":1}\n' + b"x" * 11))
    assert received == [{"a": 1}]


def test_a_line_in_tiny_pieces_takes_no_more_memory_than_a_whole_one():
    decoder = NdjsonDecoder(max_line_bytes=1_000_000)
    with peak_bytes() as peak:
        for _ in range(500_000):
            assert list(decoder.feed(b"  ")) == []
    with pytest.raises(NdjsonError):
        list(decoder.feed(b" "))
    assert peak[0] < 4_000_000


def test_a_half_of_a_pair_deep_inside_is_mended_or_refused():
    line = b'{"a":' + b"[" * 900 + b'"\\ud800"' + b"]" * 900 + b"}\n"
    try:
        (found,) = NdjsonDecoder(kind=CHAT).feed(line)
    except NdjsonError:
        return
    for _ in range(900):
        (found,) = found["a"] if isinstance(found, dict) else found
    assert found == "\ufffd"


_NUMBERS = st.one_of(
    st.integers(-(10**40), 10**40).map(str),
    st.integers(-(2**64) - 2, 2**64 + 2).map(str),
    st.sampled_from(
        ["-0", "-0.0", "1e400", "-1e400", "NaN", "Infinity", "-Infinity", "1E5", "5e-324", "2e-324", "0e19"]
    ),
    st.floats().map(json.dumps),
    st.builds("{}.{}e{}".format, st.integers(0, 10**25), st.integers(0, 10**25), st.integers(-400, 400)),
)
_STRINGS = st.one_of(st.text(), st.sampled_from(["\ud83d", "\ude00", "\ud83d\ude00", ",1234567890123456789"])).map(
    json.dumps
)
_BLANKS = st.sampled_from(["", " ", "\t", " \r\n"])


def _object_text(fields):
    return "{" + ",".join(f"{name}{blank}:{blank}{value}" for name, blank, value in fields) + "}"


_JSON_VALUES = st.recursive(
    st.one_of(_NUMBERS, _STRINGS, st.sampled_from(["true", "false", "null", "[]", "{}"])),
    lambda inner: st.one_of(
        st.lists(inner).map(lambda each: f"[{','.join(each)}]"),
        st.lists(st.tuples(st.sampled_from(['"a"', '"b"', '"\\ud800"']), _BLANKS, inner)).map(_object_text),
    ),
    max_leaves=20,
)


def _typed(value):
    """A value that equals another one only if all types in it are the same, and NaN equals NaN."""
    if isinstance(value, dict):
        return [(name, _typed(each)) for name, each in value.items()]
    return [_typed(each) for each in value] if isinstance(value, list) else (type(value), repr(value))


@given(st.lists(st.tuples(_STRINGS, _BLANKS, _JSON_VALUES)).map(_object_text), _BLANKS)
def test_an_object_is_decoded_as_the_standard_library_does(text, blank):
    expected = _typed(replace_surrogates_in(json.loads(text)))
    line = (text + blank).encode()
    assert _typed(decode_object(line)) == expected
    if b"\n" not in line:
        (decoded,) = NdjsonDecoder().feed(line + b"\n")
        assert _typed(decoded) == expected


@pytest.mark.parametrize("depth", [100, 900])
def test_a_deeply_nested_object_is_decoded(depth):
    text = '{"a":' * depth + "1" + "}" * depth
    assert decode_object(text.encode()) == json.loads(text)


@pytest.mark.parametrize("number", [2**63 - 1, 2**64, -(2**63) - 1, 10**30])
@pytest.mark.parametrize("padding", [0, 1, (1 << 16) - 20])
def test_whole_numbers_beyond_64_bits_are_exact(number, padding):
    line = b'{"text":"%b","number":%d}' % (b"x" * padding, number)
    assert decode_object(line)["number"] == number
