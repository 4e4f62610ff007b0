import os
import resource
import signal
import stat
import uuid
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from callbacks import SpoolError
from callbacks.documents import Owner, Spool
from callbacks.documents._spool_format import HEADER
from callbacks.errors import DamagedSpoolError
from callbacks.publish._run_log import RunLog, file_stem, logs_left_behind


def same(left, right):
    if isinstance(left, np.ndarray):
        return isinstance(right, np.ndarray) and left.dtype == right.dtype and np.array_equal(left, right)
    if isinstance(left, list):
        return isinstance(right, list) and len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return (
            isinstance(right, dict)
            and left.keys() == right.keys()
            and all(same(left[key], right[key]) for key in left)
        )
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


@settings(deadline=None)
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
    assert (again.content.damage is None) == (cut in (0, HEADER.size) or cut in ends or cut > ends[-1])
    kept = path.read_bytes()
    again.append("stop", {"uid": "end"})
    assert [again.read(offset)[1]["uid"] for offset in again.offsets()][-1] == "end"
    assert (
        path.read_bytes()[HEADER.size : len(kept)] == kept[HEADER.size :]
    )  # what is cut stays for who can read it
    third = Spool(path)
    assert len(list(third.offsets())) == complete + 1


def small_log(path):
    """A log of five documents, and its bytes."""
    log = RunLog(path)
    log.append("start", {"uid": "a", "sample": "x"}, keep=False)
    for number in range(3):
        data = {"x": np.full(7, number + 1, np.uint16), "y": 1.5}
        log.append("event", {"uid": str(number), "data": data}, keep=False)
    log.append("stop", {"uid": "b"}, keep=False)
    documents = list(log)
    log.close(delete=False)
    return documents, path.read_bytes()


def assert_only_what_was_written(folder, documents):
    """What a folder of logs gives back was written so; returns what is left of it."""
    found = []
    for log in logs_left_behind(folder, say=lambda text: None):
        for index in range(len(log)):
            try:
                found.append(log.read(index))
            except DamagedSpoolError:
                continue
        log.close(delete=True)
    positions = [
        next(n for n, whole in enumerate(documents) if same(list(got), list(whole))) for got in found
    ]
    assert positions == sorted(set(positions))
    return found


def test_every_bit_that_flips_is_noticed_and_costs_one_document(tmp_path):
    documents, content = small_log(tmp_path / "a.run")
    (tmp_path / "a.run").unlink()
    folder = tmp_path / "logs"
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        folder.mkdir()
        (folder / "a.run").write_bytes(damaged)
        found = assert_only_what_was_written(folder, documents)
        assert len(found) >= len(documents) - 1
        # What is damaged is still there under another name, and in nobody's way.
        assert [path.name for path in folder.iterdir()] == ["a.damaged"]
        (folder / "a.damaged").unlink()
        folder.rmdir()


@settings(deadline=None)
@given(data=st.data())
def test_damage_of_any_kind_blocks_nothing_and_alters_nothing(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("logs")
    documents, content = small_log(folder / "a.run")
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(damaged)))
        size = data.draw(st.integers(0, 300))
        what = data.draw(st.sampled_from(["zeros", "hole", "noise", "cut", "twice"]))
        piece = bytes(damaged[start : start + size])
        if what == "zeros":
            damaged[start : start + size] = bytes(len(piece))
        elif what == "hole":
            del damaged[start : start + size]
        elif what == "noise":
            damaged[start : start + size] = data.draw(st.binary(max_size=300))
        elif what == "cut":
            del damaged[start:]
        else:
            damaged[start:start] = piece
    (folder / "a.run").write_bytes(damaged)
    assert_only_what_was_written(folder, documents)


def test_what_is_no_log_is_set_aside_and_said(tmp_path):
    _, content = small_log(tmp_path / "good.run")
    other_version = bytearray(content)
    other_version[8] += 1
    other_version[36:40] = zlib.crc32(bytes(other_version[:36])).to_bytes(4, "little")
    (tmp_path / "version.run").write_bytes(other_version)
    (tmp_path / "foreign.run").write_bytes(b"NMC1" + bytes(5000))
    (tmp_path / "folder.run").mkdir()
    (tmp_path / "dangling.run").symlink_to(tmp_path / "nowhere")
    (tmp_path / "link.run").symlink_to(tmp_path / "good.run")
    os.mkfifo(tmp_path / "pipe.run")
    (tmp_path / "empty.run").touch()
    said = []
    logs = logs_left_behind(tmp_path, say=said.append)
    assert {log.path.name: (len(log), log.damage) for log in logs} == {
        "good.run": (5, None),
        "empty.run": (0, "there is no document in it"),
    }
    for name in ("version", "foreign", "folder", "dangling", "link", "pipe"):
        assert os.path.lexists(tmp_path / f"{name}.damaged"), name
        assert sum(f"{name}.run" in text and f"{name}.damaged" in text for text in said) == 1
    assert any("another version" in text for text in said)
    for log in logs:
        log.close(delete=True)


def test_a_log_that_belongs_to_another_process_is_left_alone_even_when_its_beginning_is_damaged(tmp_path):
    log = RunLog(tmp_path / "a.run")
    log.append("start", {"uid": "a"}, keep=True)
    with (tmp_path / "a.run").open("r+b") as file:
        file.write(b"x")
    assert logs_left_behind(tmp_path) == []
    log.close(delete=False)
    (left,) = logs_left_behind(tmp_path)
    assert [name for name, _ in left] == ["start"]
    left.close(delete=True)


def test_undelivered_logs_hold_no_descriptors(tmp_path):
    owner = Owner(tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))
    logs = [RunLog(tmp_path / f"{number}.run", owner) for number in range(200)]
    for log in logs:
        assert log.append("start", {"uid": "a"}, keep=False) is None
        assert log.read(0) == ("start", {"uid": "a"})
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1
    for log in logs:
        log.close(delete=True)
    assert list(tmp_path.iterdir()) == []


def test_only_the_owner_can_read_a_spool_whatever_the_umask(tmp_path):
    for umask in (0, 0o777):
        old = os.umask(umask)
        try:
            folder = tmp_path / f"spool{umask}"
            log = RunLog(folder / "a.run")
            assert log.append("start", {"uid": "a"}, keep=False) is None
        finally:
            os.umask(old)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
        log.close(delete=True)
    open_to_all = tmp_path / "open"
    open_to_all.mkdir(mode=0o777)
    Spool(open_to_all / "a")
    assert stat.S_IMODE(open_to_all.stat().st_mode) == 0o700


@given(
    st.text(max_size=300) | st.sampled_from(["", ".", "..", "../../x", "/abs", "a/../b", "a\0b", "a" * 5000])
)
def test_a_uid_never_leaves_the_folder(uid):
    stem = file_stem(uid)
    assert 0 < len(stem) <= 100
    assert stem.isascii()
    assert not set(stem) & set("/\\.\0")


def test_names_of_runs_are_all_different():
    uids = ["", ".", "..", "A" * 200, "A" * 201, "é", "e\u0301", "\udce9", "a b", "a/b", str(uuid.uuid4())]
    assert len({file_stem(uid).lower() for uid in uids}) == len(uids)
    assert file_stem(uids[-1]) == uids[-1]


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
