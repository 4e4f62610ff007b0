import os
import resource
import signal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from callbacks import SpoolError
from callbacks._run_log import RunLog, logs_left_behind
from callbacks._spool import Spool


def same(left, right):
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and np.array_equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return left == right


def test_documents_come_back_as_they_were(tmp_path, scan_documents):
    documents = scan_documents().run()
    spool = Spool(tmp_path / "a")
    offsets = [spool.append(name, doc) for name, doc in documents]
    assert list(spool.offsets()) == offsets
    for offset, (name, doc) in zip(offsets, documents, strict=True):
        got_name, got = spool.read(offset)
        assert got_name == name
        assert same(got, doc)
    spool.close()


def test_arrays_of_any_kind(tmp_path):
    arrays = {
        "empty": np.zeros((0, 3), np.float32),
        "scalar": np.array(3.5),
        "strided": np.arange(12).reshape(3, 4)[:, ::2],
        "big endian": np.arange(5, dtype=">i4"),
        "flags": np.array([True, False]),
    }
    spool = Spool(tmp_path / "a")
    _, got = spool.read(spool.append("event", {"data": arrays, "number": np.float64(1.5), "tuple": (1, 2)}))
    assert all(same(got["data"][key], value) for key, value in arrays.items())
    assert got["number"] == 1.5
    assert got["tuple"] == [1, 2]
    spool.close()


def test_something_that_is_not_data_is_refused_and_leaves_no_trace(tmp_path):
    spool = Spool(tmp_path / "a")
    spool.append("start", {"uid": "a"})
    before = spool.nbytes
    with pytest.raises(SpoolError, match="object is not data"):
        spool.append("event", {"data": {"x": object()}})
    assert spool.nbytes == before
    spool.close()


@given(cut=st.integers(0, 5000))
def test_a_spool_cut_off_at_any_byte_keeps_every_complete_record(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("cut") / "a"
    spool = Spool(path)
    ends = []
    for number in range(5):
        spool.append("event", {"uid": str(number), "data": {"x": np.full((10, 10), number, np.uint16)}})
        ends.append(spool.nbytes)
    spool.close()
    os.truncate(path, min(cut, ends[-1]))
    again = Spool(path)
    complete = sum(end <= cut for end in ends)
    assert [again.read(offset)[1]["uid"] for offset in again.offsets()] == [str(n) for n in range(complete)]
    again.append("stop", {"uid": "end"})
    assert [again.read(offset)[1]["uid"] for offset in again.offsets()][-1] == "end"
    again.close()


def test_a_full_disk_costs_no_document(tmp_path):
    # A limit on the size of files is the disk that is full.
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    log = RunLog(tmp_path / "a.run")
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, old[1]))
        problems = [
            log.append("event", {"uid": str(n), "data": {"x": np.full(5000, n, np.uint16)}}, keep=False)
            for n in range(8)
        ]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert problems[0] is None
    assert isinstance(problems[-1], SpoolError)
    assert log.append("stop", {"uid": "8", "data": {}}, keep=False) is None  # there is room again
    assert [doc["uid"] for _, doc in log] == [str(n) for n in range(9)]
    assert [int(doc["data"]["x"][0]) for name, doc in log if name == "event"] == list(range(8))
    log.close(delete=True)
    assert list(tmp_path.iterdir()) == []


def test_a_log_belongs_to_one_process(tmp_path):
    log = RunLog(tmp_path / "a.run")
    log.append("start", {"uid": "a"}, keep=True)
    with pytest.raises(SpoolError, match="belongs to another process"):
        RunLog(tmp_path / "a.run")
    assert logs_left_behind(tmp_path) == []
    log.close(delete=False)
    (left,) = logs_left_behind(tmp_path)
    assert [name for name, _ in left] == ["start"]
    left.close(delete=True)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="choose another folder"):
        Spool(tmp_path / "file" / "spool")
