"""The codec carries plain data exactly and survives any bytes; comparison follows the documented rules."""

from __future__ import annotations

import contextlib
import math
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from restrl.grading.compare import outputs_equal, values_equal
from restrl.grading.jail import codec

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.complex_numbers(allow_nan=False),
    st.text(),
    st.binary(),
    st.fractions(),
    st.decimals(allow_nan=False),
)
keys = st.one_of(st.none(), st.integers(), st.text(), st.tuples(st.integers(), st.text()))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(keys, inner, max_size=3),
        st.sets(st.integers(), max_size=4),
        st.frozensets(st.text(), max_size=4),
        st.lists(inner, max_size=3).map(deque),
    ),
    max_leaves=12,
)
quick = settings(deadline=None, max_examples=60)


def exact(value):
    """Types and values of everything inside, order of dictionaries included: an oracle stricter than ==."""
    if isinstance(value, dict):
        return ("dict", [(exact(k), exact(v)) for k, v in value.items()])
    if isinstance(value, set | frozenset):
        return (type(value), sorted(map(repr, value)))
    if isinstance(value, list | tuple | deque):
        return (type(value), [exact(item) for item in value])
    return (type(value), repr(value))


@quick
@given(values)
def test_round_trip_is_exact(value):
    assert exact(codec.decode(codec.encode(value))) == exact(value)


@quick
@given(values)
def test_the_node_count_is_what_decoding_needs(value):
    nodes = codec.count_nodes(value)
    codec.decode(codec.encode(value), max_nodes=nodes)
    with pytest.raises(codec.CodecError):
        codec.decode(codec.encode(value), max_nodes=nodes - 1)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=60))
def test_any_bytes_decode_or_raise_a_codec_error(data):
    with contextlib.suppress(codec.CodecError):
        codec.decode(data, max_nodes=1000)


@quick
@given(values, st.data())
def test_every_truncation_is_refused(value, data):
    encoded = codec.encode(value)
    cut = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(codec.CodecError):
        codec.decode(encoded[:cut])


def test_subclasses_cross_by_value():
    point = namedtuple("point", "x y")
    color = IntEnum("color", "RED")

    class Liar(list):
        def __iter__(self):
            return iter([42])

        def __len__(self):
            return 1

    for value, plain in [
        (point(1, 2), (1, 2)),
        (color.RED, 1),
        (Counter("aab"), {"a": 2, "b": 1}),
        (defaultdict(list, a=[1]), {"a": [1]}),
        (OrderedDict(a=1), {"a": 1}),
        (Liar([7, 8]), [7, 8]),
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
    ]:
        assert exact(codec.decode(codec.encode(value))) == exact(plain)


@pytest.mark.parametrize("value", [object(), range(3), iter([]), np.zeros(3), {"a": lambda: 0}, type])
def test_anything_else_is_refused(value):
    with pytest.raises(codec.Unsupported):
        codec.encode(value)


def test_caps_hold():
    deep = []
    for _ in range(1000):
        deep = [deep]
    with pytest.raises(codec.TooLarge):
        codec.encode(deep)
    for value in ("x" * 1000, b"x" * 1000, 1 << 10000, list(range(1000)), bytearray(1000)):
        with pytest.raises(codec.TooLarge):
            codec.encode(value, max_bytes=500)
    with pytest.raises(codec.CodecError):
        codec.decode(b"l\x01\x00\x00\x00" * 1000 + b"N")
    with pytest.raises(codec.CodecError):
        codec.decode(b"l\xff\xff\xff\xff")


@quick
@given(values, values)
def test_equality_is_pythons_without_bools_for_numbers(left, right):
    def has_bool(value):
        return "True" in repr(value) or "False" in repr(value)

    if not has_bool(left) and not has_bool(right):
        assert values_equal(left, right) == (left == right)
    assert values_equal(left, left)


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (1, True, False),
        ([1, 0], [True, False], False),
        ({1: "a"}, {True: "a"}, False),
        ({1}, {True}, False),
        ({(1, 2)}, {(1.0, 2)}, True),
        (1, 1.0, True),
        (2**53 + 1, float(2**53), False),
        (math.nan, math.nan, True),
        ([math.nan], [0.0], False),
        ([1], (1,), False),
        ({1}, frozenset({1}), True),
        ("1", 1, False),
        (b"a", "a", False),
        (None, False, False),
        (0.1 + 0.2, 0.3, False),
        (Decimal("1.0"), 1, True),
        (Fraction(1, 2), 0.5, True),
        ({"a": [1, {"b": math.nan}]}, {"a": [1, {"b": math.nan}]}, True),
    ],
)
def test_the_rules_of_equality(left, right, same):
    assert values_equal(left, right) is same
    assert values_equal(right, left) is same


def test_a_tolerance_is_for_floats_only():
    assert values_equal([0.1 + 0.2], [0.3], atol=1e-9)
    assert values_equal(1, 1 + 1e-10, atol=1e-9)
    assert not values_equal(1, 2, atol=5)
    assert not values_equal(math.inf, 1.0, atol=1e9)
    assert values_equal(math.inf, math.inf, atol=1e-9)
    assert not values_equal(10**400, 1.0, atol=1.0)


@pytest.mark.parametrize(
    ("expected", "actual", "same"),
    [
        ("1 2\n3", b"1  2\n3\n\n", True),
        ("1 2\n3", b"1 2 3", False),
        ("100000000", b"100000999", False),
        ("1.50", b"1.5", True),
        ("1e3", b"1000", True),
        ("7", b"07", False),
        ("0010", b"10", False),
        ("5", b"5.0", True),
        ("1_000.0", b"1000.0", False),
        ("nan", b"nan", True),
        ("nan", b"0", False),
        ("yes", b"YES", False),
        ("a", b"a\r\n", True),
        ("a b", b"b a", False),
        ("a", b"a a", False),
        ("a", b"a\xff", False),
        ("", b"\n \n", True),
        ("1e999999999", b"2e999999999", False),
        ("٣.0", b"3", False),
    ],
)
def test_the_rules_of_output(expected, actual, same):
    assert outputs_equal(expected, actual) is same


def test_output_with_a_tolerance():
    assert outputs_equal("0.3333333", b"0.33333", atol=1e-4)
    assert not outputs_equal("0.3333333", b"0.34", atol=1e-4)
    assert not outputs_equal("1e999999999", b"1.5e999999998", atol=1.0)
    assert not outputs_equal("3", b"4", atol=2.0)
