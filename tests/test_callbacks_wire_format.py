"""Messages between processes: what is sent arrives, and no message ends, starves or takes over the receiver."""

import os
import pickle
import struct
import subprocess
import sys
import threading
import tracemalloc
import uuid
import zlib
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import PurePosixPath

import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from callbacks import LiveSOC, StreamError
from callbacks.documents import plain_document
from callbacks.documents._received_documents import ReceivedDocuments, check_form
from callbacks.documents._wire_format import DOCUMENT_NAMES, pack_document, unpack_document

HEADER = struct.Struct("<4sBBHI16sQI")
FUZZ = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
DTYPES = (
    "?",
    "i1",
    "<i2",
    ">i4",
    "<i8",
    "u1",
    "<u2",
    ">u2",
    "<u4",
    "<u8",
    "<f2",
    "<f4",
    ">f8",
    "<c8",
    "<c16",
)


def message(text, name=2, arrays=b"", n_arrays=0, **changes):
    """Make a message by hand, with a checksum that fits."""
    text = text if isinstance(text, bytes) else msgpack.packb(text)
    fields = {
        "magic": b"NIMD",
        "version": 1,
        "n_text": len(text),
        "publisher": bytes(16),
        "sequence": 0,
    } | changes
    crc = zlib.crc32(text + arrays)
    return (
        HEADER.pack(
            fields["magic"], fields["version"], name, n_arrays, fields["n_text"], fields["publisher"],
            fields["sequence"], crc,
        ) + text + arrays
    )  # fmt: skip


def reseal(raw):
    """Return a message with the checksum of what it holds now: a forger can compute it too."""
    raw = bytearray(raw)
    if len(raw) >= HEADER.size:
        struct.pack_into("<I", raw, HEADER.size - 4, zlib.crc32(raw[HEADER.size :]))
    return bytes(raw)


def event(**data):
    return {
        "uid": "e", "descriptor": "d", "seq_num": 1, "time": 1.0, "filled": {},
        "data": data, "timestamps": dict.fromkeys(data, 1.0),
    }  # fmt: skip


def assert_equal(one, other):
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_equal(left, right)
    elif isinstance(one, np.ndarray):
        assert one.shape == other.shape
        assert one.dtype == other.dtype.newbyteorder("<")
        assert one.tobytes() == other.astype(one.dtype).tobytes()
        assert one.flags.writeable
    else:
        assert one == other or (one != one and other != other)


class Wanted:
    """Counts what comes through, and sends a document that must come through after whatever was sent."""

    def __init__(self, **options):
        self.names = []
        self.receive = ReceivedDocuments(lambda name, doc: self.names.append(name), **options)

    def after(self, raw):
        refused = self.receive.n_refused
        self.receive(raw)
        came = len(self.names)
        self.receive(pack_document("stop", {"uid": "u", "run_start": "r"}))
        assert self.names[came:] == ["stop"]
        return self.receive.n_refused > refused


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=5),
    max_leaves=20,
)
arrays = st.builds(
    lambda dtype, shape, seed: np.random.default_rng(seed).integers(0, 2, shape).astype(dtype),
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 5), max_size=4).map(tuple),
    st.integers(0, 99),
)


@FUZZ
@given(
    st.sampled_from(DOCUMENT_NAMES), st.dictionaries(st.text(max_size=8), plain, max_size=6), st.lists(arrays)
)
def test_what_is_sent_arrives_as_everywhere_else(name, metadata, images):
    doc = {**metadata, "data": {f"image {number}": image for number, image in enumerate(images)}}
    sent = unpack_document(pack_document(name, doc, b"p" * 16, 7))
    assert (sent.name, sent.publisher, sent.sequence) == (name, b"p" * 16, 7)
    assert_equal(sent.doc, plain_document(name, doc))


def test_metadata_of_any_type_arrive_as_they_are_stored():
    doc = {
        "uid": "u",
        "time": 1.0,
        "where": PurePosixPath("/data"),
        "when": datetime(2026, 1, 2, tzinfo=UTC),
        "id": uuid.UUID(int=5),
        "price": Decimal("1.10"),
        "bad": float("nan"),
        "set": {3, 1},
        "big": 2**70,
        "array": np.arange(3),
        "bytes": b"\xff",
        "complex": 1 + 2j,
        3: "number as key",
    }
    assert_equal(unpack_document(pack_document("start", doc)).doc, plain_document("start", doc))
    data = {
        "image": np.arange(12, dtype=">u2").reshape(3, 4)[:, ::2],
        "scalar": np.array(3.5),
        "long": np.longdouble(1.5) * np.ones(2, np.longdouble),
        "nan": float("nan"),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    }
    back = unpack_document(pack_document("event", event(**data))).doc["data"]
    for key, value in data.items():
        assert np.array_equal(back[key], value, equal_nan=True)
    assert back["scalar"].shape == ()


@FUZZ
@given(st.binary(max_size=300))
def test_random_bytes_cost_nothing_else(raw):
    wanted = Wanted()
    assert wanted.after(raw)
    assert wanted.after(b"NIMD\x01" + raw)
    assert wanted.after(reseal(b"NIMD\x01\x02" + raw))


@FUZZ
@given(st.data())
def test_changed_and_truncated_messages_cost_nothing_else(data):
    valid = bytes(
        pack_document("event", event(image=np.arange(24, dtype=np.uint16).reshape(4, 6), energy=8340.0))
    )
    wanted = Wanted()
    cut = data.draw(st.integers(0, len(valid) - 1))
    assert wanted.after(valid[:cut])
    assert wanted.after(valid + b"\0")
    changed = bytearray(valid)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(valid) - 1))] ^= data.draw(st.integers(1, 255))
    # Damage is noticed wherever the checksum covers it ...
    if changed[HEADER.size :] != valid[HEADER.size :]:
        assert wanted.after(bytes(changed))
    # ... and a forger, who makes it fit, gains nothing.
    wanted.after(reseal(changed))
    wanted.after(reseal(changed[:cut]))


text = st.binary(max_size=120)


@FUZZ
@given(text, st.integers(0, 255), st.integers(0, 3), st.binary(max_size=60))
def test_forged_messages_cost_nothing_else(document, name, n_arrays, table):
    Wanted().after(message(document, name, table, n_arrays))


def declared(code, count):
    return {"list": b"\xdd", "map": b"\xdf", "str": b"\xdb", "bin": b"\xc6", "ext": b"\xc9"}[
        code
    ] + struct.pack(">I", count)


HUGE = 2**32 - 1
EVENT = msgpack.packb(event())
HOSTILE = {
    "empty": b"",
    "not of this format": b"p event " + pickle.dumps({"a": 1}),
    "another version": message(EVENT, version=2),
    "unknown name": message(EVENT, name=len(DOCUMENT_NAMES)),
    "no document": message(b""),
    "null": message(None),
    "a list": message([1, 2]),
    "a number": message(3),
    "data null": message({**event(), "data": None}),
    "data a list": message({**event(), "data": [1]}),
    "data missing": message({"descriptor": "d", "seq_num": 1}),
    "descriptor a list": message({**event(), "descriptor": ["d"]}),
    "sequence number a text": message({**event(), "seq_num": "1"}),
    "sequence number true": message({**event(), "seq_num": True}),
    "timestamps null": message({**event(), "timestamps": None}),
    "start without uid": message({"time": 1.0}, name=0),
    "start with a uid that is none": message({"uid": {"a": 1}}, name=0),
    "stop without run": message({"uid": "u"}, name=4),
    "resource without uid": message({}, name=5),
    "page with columns of different lengths": message(
        {"descriptor": "d", "uid": ["a"], "seq_num": [1, 2], "time": [1.0], "data": {}, "timestamps": {}}, name=3
    ),
    "page with a number as column": message(
        {"descriptor": "d", "uid": ["a"], "seq_num": [1], "time": [1.0], "data": {"x": 3}, "timestamps": {}}, name=3
    ),
    "keys that are numbers": message({1: 2}),
    "bytes as key": message(b"\x81" + declared("bin", 1) + b"a" + b"\x01"),
    "bytes": message({"descriptor": b"d", "seq_num": 1, "data": {}}),
    "text that is not UTF-8": message(b"\x81\xa1a\xa2\xff\xfe"),
    "two documents": message(EVENT + EVENT),
    "document larger than the message": message(EVENT, n_text=HUGE),
    "list that declares 4 billion": message(declared("list", HUGE)),
    "map that declares 4 billion": message(declared("map", HUGE)),
    "text that declares 4 GB": message(declared("str", HUGE) + b"abc"),
    "bytes that declare 4 GB": message(declared("bin", HUGE) + b"abc"),
    "extension that declares 4 GB": message(declared("ext", HUGE) + b"\x01ab"),
    "lists in lists that declare a million each": message(declared("list", 10**6) * 500),
    "maps in maps that declare a million each": message((declared("map", 10**6) + b"\xa1a") * 500),
    "ten thousand levels": message(b"\x91" * 10_000 + b"\xc0"),
    "ten thousand levels of maps": message(b"\x81\xa1a" * 10_000 + b"\xc0"),
    "a million empty maps": message(declared("list", 1_000_000) + b"\x80" * 1_000_000),
    "extension of another kind": message(b"\x81\xa1a\xd5\x05\0\0"),
    "time stamp extension": message(b"\x81\xa1a\xd6\xff\0\0\0\0"),
    "array that is not there": message(b"\x81\xa1a\xd5\x01\0\0"),
    "array that is not named": message(event(), arrays=b"\x05\x00\x01", n_arrays=1),
    "array named twice": message(b"\x82\xa1a\xd5\x01\0\0\xa1b\xd5\x01\0\0", arrays=b"\x05\x00\x01", n_arrays=1),
    "65535 arrays of none": message(event(), n_arrays=65535),
    "array of an unknown type": message(b"\x81\xa1a\xd5\x01\0\0", arrays=b"\x63\x00\x01", n_arrays=1),
    "array of objects by its letter": message(b"\x81\xa1a\xd5\x01\0\0", arrays=b"O\x00" + b"A" * 8, n_arrays=1),
    "array of 2**64 elements": message(
        b"\x81\xa1a\xd5\x01\0\0", arrays=b"\x06\x01" + struct.pack("<Q", 2**64 - 1) + b"ab", n_arrays=1
    ),
    "array whose size overflows to its own": message(
        b"\x81\xa1a\xd5\x01\0\0", arrays=b"\x05\x02" + struct.pack("<2Q", 2**32, 2**32), n_arrays=1
    ),
    "array of nothing times 2**63": message(
        b"\x81\xa1a\xd5\x01\0\0", arrays=b"\x05\x02" + struct.pack("<2Q", 0, 2**63), n_arrays=1
    ),
    "array of 255 dimensions": message(b"\x81\xa1a\xd5\x01\0\0", arrays=b"\x05\xff" + bytes(255 * 8), n_arrays=1),
    "array one byte short": message(
        b"\x81\xa1a\xd5\x01\0\0", arrays=b"\x06\x01" + struct.pack("<Q", 2) + b"abc", n_arrays=1
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_message_costs_itself_and_little_memory(kind):
    raw = HOSTILE[kind]
    wanted = Wanted()
    tracemalloc.start()
    try:
        assert wanted.after(raw)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 4 * len(raw) + 2**20


@pytest.mark.parametrize("doc", [{"a": np.zeros(2, object)}, {"a": 2**2000}])
def test_what_cannot_be_sent_as_it_is_still_arrives_as_data(doc):
    assert unpack_document(pack_document("start", {"uid": "u", **doc})).doc["uid"] == "u"


def test_what_is_too_large_is_said_where_it_is_sent():
    with pytest.raises(StreamError, match="too large for a message"):
        pack_document("start", {"uid": "u", "text": "x" * (65 * 2**20)})
    with pytest.raises(StreamError, match="more than 1000000 values"):
        pack_document("start", {"uid": "u", "values": [0] * 1_000_001})
    with pytest.raises(StreamError, match="'noise' is not the name of a document"):
        pack_document("noise", {})


class Evil:
    def __reduce__(self):
        return (os.mkdir, (str(Evil.folder),))


def test_a_pickle_runs_only_where_it_is_trusted(tmp_path):
    from callbacks.documents._trusted_messages import read_kafka_msgpack, read_zmq_pickle

    Evil.folder = tmp_path / "made"
    doc = event(image=np.arange(6).reshape(2, 3), note=PurePosixPath("x"))
    as_bluesky = b" ".join([b"", b"event", pickle.dumps(doc)])
    evil = b" ".join([b"", b"event", pickle.dumps(Evil())])
    import msgpack_numpy

    kafka = msgpack_numpy.packb(("event", doc | {"data": {"image": np.array([Evil()], object)}}))
    wanted = Wanted()
    for raw in (as_bluesky, evil, kafka):
        assert wanted.after(raw)
    assert not Evil.folder.exists()
    trusting = Wanted(trusted=read_zmq_pickle)
    assert not trusting.after(as_bluesky)
    # Even then what is no document costs itself only.
    no_data = {"descriptor": "x", "data": None}
    rest = (
        b"event not-a-pickle",
        b"\xff\xff x",
        b"foo " + pickle.dumps(doc),
        b"event " + pickle.dumps(no_data),
    )
    for raw in (b"", b"a b", *(b"p " + raw for raw in rest)):
        assert trusting.after(raw)
    assert not Wanted(trusted=read_kafka_msgpack).after(msgpack_numpy.packb(("event", doc | {"data": {}})))


def test_nothing_is_unpickled_where_msgpack_has_been_patched(tmp_path):
    """bluesky-kafka patches msgpack for the whole process; arrays of objects are then pickles."""
    script = """
import os, sys, pickle, msgpack_numpy, msgpack
msgpack_numpy.patch()
from callbacks.documents._wire_format import pack_document, unpack_document
import callbacks.documents._wire_format as wire, zlib
class Evil:
    def __reduce__(self):
        return (os.mkdir, (sys.argv[1],))
assert unpack_document(pack_document("start", {"uid": "u", "nd": True})).doc["nd"] is True
text = msgpack.packb({"nd": True, "kind": "O", "data": pickle.dumps(Evil()).decode("latin1")})
for text in (text, b"\\x83\\xc4\\x02nd\\xc3\\xc4\\x04kind\\xc4\\x01O\\xc4\\x04data\\xc4\\x02ab"):
    head = wire._HEADER.pack(b"NIMD", 1, 0, 0, len(text), bytes(16), 0, zlib.crc32(text))
    try:
        unpack_document(head + text)
    except wire.StreamError:
        pass
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "made")], check=True, timeout=600)
    assert not (tmp_path / "made").exists()


def test_lost_messages_are_counted_and_said(caplog):
    wanted = Wanted()
    for publisher, sequence in ((b"a", 5), (b"a", 6), (b"b", 0), (b"a", 9), (b"a", 8), (b"b", 1), (b"a", 10)):
        wanted.receive(pack_document("start", {"uid": "u"}, publisher * 16, sequence))
    assert wanted.receive.n_lost == 2
    (said,) = caplog.messages
    assert said.startswith("2 documents were lost on the way (numbers 7 to 8)")
    for number in range(1000):
        wanted.receive(pack_document("start", {"uid": "u"}, number.to_bytes(16, "big"), 2**64 - 1))
    assert wanted.receive.n_lost == 2


def test_a_flood_does_not_fill_the_log_and_a_consumer_that_raises_does_not_end_it(caplog):
    wanted = Wanted()
    for _ in range(1000):
        wanted.receive(b"noise")
    assert len(caplog.messages) == 4
    assert "--trust-pickle" in caplog.messages[0]

    def broken(name, doc):
        raise ValueError(name)

    received = ReceivedDocuments(broken)
    received(pack_document("stop", {"run_start": "r"}))
    assert received.n_refused == 0
    assert "the stream goes on" in caplog.messages[-1]


def test_names_that_people_give_in_metadata_are_left_to_them(scan_documents):
    check_form(
        "start", {"uid": "u", "parameters": "x", "name": 3, "hints": None, "data": "/path", "time": "now"}
    )
    for name, doc in scan_documents((4, 5)).run():
        check_form(name, doc)


def test_a_receiver_under_fire_goes_on_in_bounded_memory():
    """Over real 0MQ, in a process whose memory is limited: everything hostile, then a document."""
    import zmq

    script = """
import resource, sys, threading
from callbacks import open_stream
import numpy, msgpack
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + 800 * 2**20,) * 2)
stream = open_stream(sys.argv[1])
def consumer(name, doc):
    print(name, flush=True)
    if name == "stop":
        stream.stop()
stream.run(consumer)
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, flush=True)
"""
    with zmq.Context() as context, context.socket(zmq.PUB) as publisher:
        publisher.setsockopt(zmq.LINGER, 0)
        port = publisher.bind_to_random_port("tcp://127.0.0.1")
        process = subprocess.Popen(
            [sys.executable, "-c", script, f"zmq://127.0.0.1:{port}"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        heard = threading.Event()
        lines = []

        def listen():
            for line in process.stdout:
                lines.append(line.strip())
                heard.set()

        listener = threading.Thread(target=listen, daemon=True)
        listener.start()
        while not heard.wait(0.05):  # until the subscription is known on both sides
            assert process.poll() is None, process.stderr.read()
            publisher.send(pack_document("start", {"uid": "u"}))
        for raw in HOSTILE.values():
            publisher.send(raw)
        publisher.send_multipart([b"a", b"b"])
        publisher.send(pack_document("stop", {"uid": "u", "run_start": "u"}))
        assert process.wait(240) == 0, process.stderr.read()
        listener.join(240)
        publisher.close()
    assert lines[-2] == "stop"
    assert set(lines[:-2]) == {"start"}


def test_a_run_that_plans_a_hundred_thousand_energies_takes_no_memory(scan_documents):
    scan = scan_documents((4, 5))
    documents = scan.run(scan.steps()[:6])
    documents[0][1]["xanes"] = {
        **scan.xanes,
        "energies_ev": [8250.0] * 100_000,
        "exposure_s": [1.0] * 100_000,
    }
    with LiveSOC() as live:
        for name, doc in documents:
            live(name, unpack_document(pack_document(name, doc)).doc)
        live.wait(120)
        assert "plans 100000 energies" in str(live.errors[0])
