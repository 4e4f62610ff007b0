import datetime
import enum
import json
import uuid
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType

import msgpack
import numpy as np
import orjson
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callbacks import DocumentError
from callbacks.documents import plain_document
from callbacks.documents._plain_documents import NOTES


class Colour(enum.Enum):
    RED = 1
    FILE = Path("/a")


class Kind(enum.StrEnum):
    FAST = "fast"


@dataclass
class Holder:
    name: str
    when: datetime.date


class Silent:
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


Pair = namedtuple("Pair", "x y")
UID = uuid.uuid4()
ZONE = datetime.timezone(datetime.timedelta(hours=-5))
STRUCTURED = np.array([(1, 2.5), (2, np.nan)], dtype=[("n", "i4"), ("x", "f8")])

CASES = {
    "path": (Path("/data/x.h5"), "/data/x.h5"),
    "date": (datetime.date(2026, 3, 1), "2026-03-01"),
    "datetime": (datetime.datetime(2026, 3, 1, 12), "2026-03-01T12:00:00"),
    "datetime with zone": (datetime.datetime(2026, 3, 1, 12, tzinfo=ZONE), "2026-03-01T12:00:00-05:00"),
    "time": (datetime.time(9, 30), "09:30:00"),
    "timedelta": (datetime.timedelta(minutes=1, milliseconds=500), "PT60.5S"),
    "negative timedelta": (-datetime.timedelta(hours=1), "-PT3600S"),
    "uuid": (UID, str(UID)),
    "decimal": (Decimal("1.50"), "1.50"),
    "fraction": (Fraction(1, 3), "1/3"),
    "enum": (Colour.RED, 1),
    "enum of a path": (Colour.FILE, "/a"),
    "str enum": (Kind.FAST, "fast"),
    "complex": (1 + 2j, "(1+2j)"),
    "bytes of text": (b"abc", "abc"),
    "bytes": (b"\x00\xff", "data:application/octet-stream;base64,AP8="),
    "bytearray": (bytearray(b"abc"), "abc"),
    "set": ({"b", "a"}, ["a", "b"]),
    "frozenset of mixed": (frozenset({1, "a"}), [1, "a"]),
    "tuple": ((1, (2, 3)), [1, [2, 3]]),
    "namedtuple": (Pair(1, 2), [1, 2]),
    "range": (range(3), [0, 1, 2]),
    "nan": (float("nan"), None),
    "infinities": ([float("inf"), -float("inf")], [None, None]),
    "nan of numpy": (np.float32("nan"), None),
    "int of 64 bits": (2**63 - 1, 2**63 - 1),
    "int beyond": (2**70, str(2**70)),
    "negative int beyond": (-(2**64), str(-(2**64))),
    "huge int": (10**5000, hex(10**5000)),
    "numpy float": (np.float32(3.5), 3.5),
    "numpy bool": (np.bool_(True), True),
    "numpy int": (np.uint64(2**64 - 1), 2**64 - 1),
    "numpy str": (np.str_("a"), "a"),
    "numpy bytes": (np.bytes_(b"a"), "a"),
    "numpy datetime": (np.datetime64("2026-03-01T12:00:00"), "2026-03-01T12:00:00"),
    "numpy NaT": (np.datetime64("NaT"), None),
    "numpy timedelta": (np.timedelta64(1500, "ms"), "PT1.5S"),
    "numpy longdouble": (np.longdouble(1.5), 1.5),
    "numpy complex": (np.complex64(1j), "1j"),
    "array": (np.arange(4.0).reshape(2, 2), [[0.0, 1.0], [2.0, 3.0]]),
    "array with nan": (np.array([1.0, np.nan]), [1.0, None]),
    "array of no dimension": (np.array(5), 5),
    "array of nothing": (np.zeros((0, 3)), []),
    "array of bool": (np.array([True, False]), [True, False]),
    "array of dates": (np.array([["2026-03-01", "NaT"]], "M8[D]"), [["2026-03-01", None]]),
    "array of durations": (np.array([1, 2], "m8[s]"), ["PT1S", "PT2S"]),
    "array of text": (np.array(["a", "b"]), ["a", "b"]),
    "array of bytes": (np.array([b"a"]), ["a"]),
    "array of objects": (np.array([Path("/a"), None, 2**70], object), ["/a", None, str(2**70)]),
    "array of complex": (np.array([1j]), ["1j"]),
    "structured array": (STRUCTURED, {"n": [1, 2], "x": [2.5, None]}),
    "structured scalar": (STRUCTURED[0], {"n": 1, "x": 2.5}),
    "masked array": (np.ma.masked_array([1, 2], [False, True]), [1, None]),
    "pandas timestamp": (pd.Timestamp("2026-03-01 12:00"), "2026-03-01T12:00:00"),
    "pandas NaT": (pd.NaT, None),
    "pandas series": (pd.Series([1, 2]), [1, 2]),
    "dataclass": (Holder("a", datetime.date(2026, 3, 1)), {"name": "a", "when": "2026-03-01"}),
    "ordered": (OrderedDict(b=1), {"b": 1}),
    "proxy": (MappingProxyType({"a": {1}}), {"a": [1]}),
    "keys": ({1: "a", 2.5: "b", None: "c", False: "d", UID: "e", (1, 2): "f", b"g": "g"}, None),
    "keys alike": ({1: "a", "1": "b"}, {"1": "a", "1 (2)": "b"}),
    "surrogate": ("cell \udce9", r"cell \udce9"),
    "NUL": ("a\0b", "a\N{REPLACEMENT CHARACTER}b"),
    "unicode": ("LiNi₀.₈ 电池 µm", "LiNi₀.₈ 电池 µm"),
    "no text": (Silent(), "<Silent that cannot be read>"),
    "a class": (Path, str(Path)),
}


@pytest.mark.parametrize("case", CASES)
def test_metadata_of_any_type_becomes_what_a_json_reader_expects(case):
    value, expected = CASES[case]
    doc = plain_document("start", {"uid": "a", "time": 1.0, "v": value, "deeper": {"list": [value]}})
    if expected is not None or case.startswith(("nan", "numpy NaT", "pandas NaT")):
        assert doc["v"] == expected
        assert doc["deeper"]["list"] == [expected]
    assert_plain(doc)


def assert_plain(doc):
    """It is the same through every carrier, and converting it again changes nothing."""
    assert json.loads(json.dumps(doc, allow_nan=False)) == doc
    assert orjson.loads(orjson.dumps(doc)) == doc
    assert msgpack.unpackb(msgpack.packb(doc)) == doc
    assert plain_document("start", doc) == doc


def test_what_lost_something_is_noted():
    doc = plain_document("start", {"temp": np.nan, "lim": [1.0, -np.inf], "n": {"big": 2**70}, "good": 1})
    assert doc[NOTES] == [
        "temp: NaN",
        "lim.1: -infinity",
        "n.big: an integer beyond 64 bits; kept as text",
    ]
    assert NOTES not in plain_document("start", {"uid": "a", "when": datetime.date(2026, 1, 1)})


def test_circles_and_endless_nesting_end():
    circle = {"a": [1]}
    circle["a"].append(circle)
    deep = {}
    inner = deep
    for _ in range(5000):
        inner["a"] = {}
        inner = inner["a"]
    twice = [1]
    doc = plain_document("start", {"circle": circle, "deep": deep, "twice": [twice, twice]})
    assert doc["circle"]["a"][0] == 1
    assert doc["twice"] == [[1], [1]]
    assert_plain(doc)


def test_measured_values_keep_their_type():
    image = np.arange(6, dtype=np.uint16).reshape(2, 3)
    data = {
        "image": image,
        "x": np.float64("nan"),
        "when": datetime.date(2026, 1, 1),
        "text": np.array(["a"]),
    }
    doc = plain_document(
        "event", {"uid": "a", "data": data, "timestamps": {"x": 1.0}, "seq_num": np.int64(1)}
    )
    assert doc["data"]["image"] is image
    assert np.isnan(doc["data"]["x"])
    assert doc["data"]["when"] == "2026-01-01"
    assert doc["data"]["text"] == ["a"]
    assert doc["seq_num"] == 1
    assert NOTES not in doc
    page = plain_document("event_page", {"data": {"image": [image, image]}})
    assert page["data"]["image"][1] is image
    assert plain_document("event", {"data": None})["data"] is None
    # An array in metadata under the same name is metadata.
    assert plain_document("start", {"data": image})["data"] == image.tolist()


@pytest.mark.parametrize("doc", [None, [], "text", 3, b"x"])
def test_a_document_that_is_none_is_refused(doc):
    with pytest.raises(DocumentError, match="instead of a mapping"):
        plain_document("event", doc)


leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(st.characters()),
    st.binary(),
    st.dates(),
    st.datetimes(),
    st.timedeltas(),
    st.uuids(),
    st.decimals(),
    st.complex_numbers(),
    st.fractions(),
)
keys = st.one_of(st.text(), st.integers(), st.booleans(), st.none(), st.floats(), st.binary())


def test_top_level_keys_alike():
    assert plain_document("start", {1: "a", "1": "b"}) == {"1": "a", "1 (2)": "b"}


values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(), values, max_size=5))
def test_whatever_is_in_it(doc):
    assert_plain(plain_document("start", doc))
