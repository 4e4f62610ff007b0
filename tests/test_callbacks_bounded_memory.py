import os
import threading

import numpy as np

from callbacks import LiveSOC
from callbacks.documents import Reading, RecordStore
from callbacks.documents._document_queue import DocumentQueue
from callbacks.documents._spool_format import HEADER
from callbacks.errors import DamagedSpoolError
from callbacks.reduce._image_store import ImageStore
from nimco.testing import wait_until
from scan_contract import Label


def event(number, size=10_000):
    return {"uid": str(number), "data": {"image": np.full(size, number, np.uint16)}}


def record(number, shape=(50, 40)):
    image = np.full(shape, number, np.uint16)
    label = Label("primary", number)
    return Reading(label, 8333.0, 8333.0, 1.0, 1.0, {"image": image}, number, str(number), 0.0)


def test_what_is_too_much_for_the_memory_waits_on_disk_and_comes_back_in_order():
    queue = DocumentQueue(memory_bytes=200_000)
    for number in range(100):
        queue.put("event", event(number))
    wait_until(lambda: queue.memory_nbytes <= 200_000)
    assert len(queue) == 100
    got = [queue.get() for _ in range(100)]
    assert [doc["uid"] for _, doc in got] == [str(number) for number in range(100)]
    assert all(doc["data"]["image"][-1] == number for number, (_, doc) in enumerate(got))
    assert queue.get(0.0) is None
    queue.close()


def test_a_queue_that_is_emptied_while_it_moves_documents_loses_none():
    queue = DocumentQueue(memory_bytes=100_000)
    got = []

    def take():
        while len(got) < 2000:
            got.append(queue.get()[1]["uid"])

    taker = threading.Thread(target=take)
    taker.start()
    for number in range(2000):
        queue.put("event", event(number, size=2000))
    taker.join(240)
    assert got == [str(number) for number in range(2000)]
    queue.close()


def test_a_full_disk_leaves_documents_in_memory(monkeypatch, caplog):
    monkeypatch.setattr(
        "os.pwrite", lambda *arguments: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    queue = DocumentQueue(memory_bytes=50_000)
    for number in range(20):
        queue.put("event", event(number))
    wait_until(lambda: any("No space left" in record.message for record in caplog.records))
    assert [queue.get()[1]["uid"] for _ in range(20)] == [str(number) for number in range(20)]
    queue.close()


def test_frames_that_may_be_needed_again_are_held_in_bounded_memory():
    store = ImageStore(memory_bytes=20_000)
    held = [store.hold(record(number)) for number in range(50)]
    assert store.memory_nbytes <= 20_000
    for number, frame in enumerate(held):
        assert frame.load().energy_index == number
        assert np.array_equal(frame.load().image, np.full((50, 40), number, np.uint16))
    store.close()


def test_frames_stay_in_memory_where_the_disk_is_full(monkeypatch, caplog):
    monkeypatch.setattr(
        "os.pwrite", lambda *arguments: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    store = ImageStore(memory_bytes=10_000)
    held = [store.hold(record(number)) for number in range(5)]
    assert [int(frame.load().image[0, 0]) for frame in held] == list(range(5))
    assert sum("No space left" in entry.message for entry in caplog.records) == 1


def test_an_analysis_that_is_behind_loses_no_frame(scan_documents, monkeypatch):
    """Everything goes through the disk on its way to the fit, and the map is the same."""
    scan = scan_documents()
    documents = scan.run()
    maps = []
    for memory_bytes in (2**30, 1):
        monkeypatch.setattr("callbacks.reduce._image_store.ImageStore.__init__.__defaults__", (memory_bytes,))
        with LiveSOC() as live:
            live._queue._limit = memory_bytes
            for name, doc in documents:
                live(name, doc)
            live.wait(240)
            assert live.errors == []
            maps.append(live.latest()["soc"].values)
    assert np.array_equal(maps[0], maps[1], equal_nan=True)


def test_a_frame_that_the_disk_changed_is_refused_and_the_others_are_read(monkeypatch):
    """The temporary file has no name that could be left behind, and each of its records has a checksum."""
    written = []
    pwrite = os.pwrite

    def noted_pwrite(file, data, at):
        written.append((file, at))
        return pwrite(file, data, at)

    monkeypatch.setattr("os.pwrite", noted_pwrite)
    store = ImageStore(memory_bytes=0)
    held = [store.hold(record(number)) for number in range(3)]
    assert os.fstat(written[0][0]).st_nlink == 0
    size = os.fstat(written[0][0]).st_size
    damaged = 0
    for at in range(HEADER.size, size, 97):
        before = os.pread(written[0][0], 1, at)
        pwrite(written[0][0], bytes([before[0] ^ 0x10]), at)
        for number, frame in enumerate(held):
            try:
                assert np.all(frame.load().image == number)
            except DamagedSpoolError:
                damaged += 1
        pwrite(written[0][0], before, at)
    assert damaged == len(range(HEADER.size, size, 97))
    store.close()


def test_the_space_of_records_that_are_not_needed_any_more_is_used_again():
    store = RecordStore()
    for _ in range(3):
        records = [store.add("event", event(number)) for number in range(10)]
        for entry in records:
            store.write(entry)
            store.release(entry)
        assert store.memory_nbytes == 0
        size = store._spool.nbytes
        assert [store.read(entry)[1]["uid"] for entry in records] == [str(number) for number in range(10)]
        for entry in records:
            store.forget(entry)
            store.forget(entry)
        assert store._spool.nbytes < size / 10
    store.close()
