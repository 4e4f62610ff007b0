"""The analysis in a process of its own: real 0MQ, a real Tiled server, a real kill."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from bluesky import RunEngine
from bluesky.callbacks.zmq import Proxy

from beamline_plans import EnergyGrid, xanes_scan
from callbacks import DocumentPublisher, LiveSOC, RawRunWriter, StreamError, open_soc, open_stream
from callbacks.documents._document_streams import KafkaStream
from nimco import TiledServer
from nimco._commands import analyse
from nimco.errors import NimcoError
from nimco.testing import wait_until
from scan_contract import MissingPackageError
from sim_devices import SimBeamline

COMMAND = "import typer; from nimco._commands import analyse; typer.run(analyse)"


@pytest.fixture
def proxy():
    """Addresses of a real 0MQ proxy: for publishers, for subscribers."""
    made = Proxy(("tcp", "127.0.0.1"), ("tcp", "127.0.0.1"))
    threading.Thread(target=made.start, daemon=True).start()
    return made.in_port, made.out_port


def start_analysis(server: TiledServer, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments, "--tiled", server.uri],
        env={**os.environ, "TILED_API_KEY": server.api_key},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_until_following(process: subprocess.Popen) -> None:
    """Read what a process says until it follows; before that it may have had to compile."""
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        if "Following zmq://127.0.0.1" in line:
            return
        said.append(line)
    pytest.fail(f"it never followed: {said}")


@pytest.mark.slow
def test_killed_in_the_middle_of_a_scan_and_started_again_it_ends_with_the_whole_map(tmp_path, proxy):
    incoming, outgoing = proxy
    beamline = SimBeamline((32, 32), seed=2)
    energies = (
        8210,
        8240,
        8270,
        8300,
        8325,
        8332,
        8336,
        8339,
        8341,
        8343,
        8345,
        8347,
        8350,
        8360,
        8400,
        8450,
        8500,
        8600,
    )
    run_engine = RunEngine()
    uids: list[str] = []
    processes: list[subprocess.Popen] = []
    arguments = ("--from", outgoing.replace("tcp://", "zmq://"))
    with TiledServer(tmp_path) as server, RawRunWriter(server.raw) as writer, LiveSOC() as reference:
        processes.append(start_analysis(server, *arguments))
        wait_until_following(processes[0])
        publisher = DocumentPublisher(incoming)
        n_primary = 0

        def n_mapped() -> int:
            maps = server.client()["maps"]
            return (
                maps[uids[0]]["Ni_K"].metadata["n_frames"]
                if uids[0] in maps and "Ni_K" in maps[uids[0]]
                else 0
            )

        def fault(name: str, doc: dict) -> None:
            nonlocal n_primary
            if name == "start":
                uids.append(doc["uid"])
            if name != "event" or doc["data"]["xanes_energy_index"] < 0:
                return
            n_primary += 1
            if n_primary == 14:
                wait_until(lambda: n_mapped() >= 1)  # it was at work
                os.kill(processes[0].pid, 9)
                assert processes[0].wait(240) == -9
            elif n_primary == 24:
                processes.append(start_analysis(server, *arguments))
                wait_until_following(processes[1])

        for consumer in (writer, publisher, reference, fault):
            run_engine.subscribe(consumer)
        run_engine(
            xanes_scan(
                beamline.camera, beamline.energy, beamline.shutter, beamline.stage,
                edge="Ni_K", grid=EnergyGrid(tuple(map(float, energies)), (0.5,) * len(energies)), i0=beamline.i0,
            )
        )  # fmt: skip
        publisher.close()
        client = server.client()
        wait_until(lambda: n_mapped() == len(energies) and client["maps"][uids[0]]["Ni_K"].metadata["final"])
        reference.wait(240)
        expected = reference.latest(uids[0])
        found = open_soc(client, uids[0])
        assert found.attrs["partial"] is False
        assert np.array_equal(found.edge_energy_ev.values, expected.edge_energy_ev.values, equal_nan=True)
        processes[1].terminate()
        output, _ = processes[1].communicate(timeout=600)
        assert processes[1].returncode == 0, output
        assert "Stopped" in output
        assert server.api_key not in output
    for process in processes:
        assert process.poll() is not None


def test_documents_travel_over_0mq_whole_and_in_order(scan_documents, proxy):
    incoming, outgoing = proxy
    documents = scan_documents().run()
    received: list[tuple[str, dict]] = []
    stream = open_stream(outgoing.replace("tcp://", "zmq://"))
    consumer = lambda name, doc: received.append((name, doc))  # noqa: E731
    thread = threading.Thread(target=stream.run, args=(consumer,), daemon=True)
    thread.start()
    publisher = DocumentPublisher(incoming)

    # Until a subscription is known on both sides documents are dropped: knock until one comes through.
    def knock() -> bool:
        publisher("start", documents[0][1])
        publisher.wait(240)
        return bool(received)

    wait_until(knock)
    for name, doc in documents[1:]:
        publisher(name, doc)
    wait_until(lambda: received and received[-1][0] == "stop")
    publisher.close()
    stream.stop()
    thread.join(240)
    assert not thread.is_alive()
    rest = [item for item in received if item[0] != "start"]
    assert [name for name, _ in rest] == [name for name, _ in documents[1:]]
    for (_, one), (_, other) in zip(rest, documents[1:], strict=True):
        assert one["uid"] == other["uid"]
        if "data" in one and "seq_num" in one:
            assert np.array_equal(one["data"]["camera_image"], other["data"]["camera_image"])


@pytest.mark.parametrize(
    "address", ["", "5578", "zmq://", "http://127.0.0.1:5578", "kafka://broker:9092", "zmq://h:x"]
)
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(StreamError, match=r"give zmq://127.0.0.1:5578 or kafka://broker:9092/topic"):
        open_stream(address)


def test_this_machine_is_the_default():
    assert open_stream("zmq://:5578").address == "tcp://127.0.0.1:5578"


def test_kafka_without_its_package_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(MissingPackageError, match=r"not installed here; run: pip install 'nimco\[kafka\]'"):
        open_stream("kafka://127.0.0.1:9092/documents")
    with pytest.raises(MissingPackageError, match=r"not installed here; run: pip install 'nimco\[kafka\]'"):
        DocumentPublisher("kafka://127.0.0.1:9092/documents")


@pytest.fixture(scope="module")
def kafka():
    """Address of librdkafka's own mock cluster, which speaks the protocol on loopback."""
    confluent = pytest.importorskip("confluent_kafka")
    cluster = confluent.Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "ignored"})
    brokers = cluster.list_topics(timeout=20).brokers.values()
    yield ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
    del cluster


def receive_from_kafka(brokers, topic, **options):
    """Return what is in a topic up to the stop document."""
    stream = KafkaStream(brokers.split(","), [topic], {"auto.offset.reset": "earliest"}, **options)
    received: list[tuple[str, dict]] = []

    def consumer(name, doc):
        received.append((name, doc))
        if name == "stop":
            stream.stop()

    thread = threading.Thread(target=stream.run, args=(consumer,), daemon=True)
    thread.start()
    thread.join(240)
    assert not thread.is_alive()
    return received


def test_documents_travel_over_kafka(scan_documents, kafka):
    documents = scan_documents(shape=(6, 8)).run()
    publisher = DocumentPublisher(f"kafka://{kafka}/documents")
    for name, doc in documents:
        publisher(name, doc)
    publisher.close()
    assert publisher.errors == []
    received = receive_from_kafka(kafka, "documents")
    assert [name for name, _ in received] == [name for name, _ in documents]
    with LiveSOC() as live, LiveSOC() as reference:
        for name, doc in received:
            live(name, doc)
        for name, doc in documents:
            reference(name, doc)
        live.wait(240)
        reference.wait(240)
        assert live.errors == []
        assert np.array_equal(live.latest()["soc"].values, reference.latest()["soc"].values, equal_nan=True)


def test_what_others_put_into_kafka_is_taken_where_it_is_trusted_only(scan_documents, kafka):
    """bluesky_kafka.Publisher writes msgpack with pickles in it."""
    import confluent_kafka
    import msgpack_numpy

    documents = scan_documents(shape=(4, 5)).run()
    producer = confluent_kafka.Producer({"bootstrap.servers": kafka})
    for message in (b"", b"noise", *(msgpack_numpy.packb(item) for item in documents)):
        producer.produce("facility", message, key=b"k")
    producer.flush(20)
    received = receive_from_kafka(kafka, "facility", trust_pickle=True)
    assert [name for name, _ in received] == [name for name, _ in documents]
    assert np.array_equal(received[2][1]["data"]["camera_image"], documents[2][1]["data"]["camera_image"])
    publisher = DocumentPublisher(f"kafka://{kafka}/facility")
    publisher("stop", documents[-1][1])
    publisher.close()
    assert [name for name, _ in receive_from_kafka(kafka, "facility")] == ["stop"]


def test_bluesky_s_own_publisher_is_followed_where_it_is_trusted_only(scan_documents, proxy, caplog):
    from bluesky.callbacks.zmq import Publisher

    incoming, outgoing = proxy
    documents = scan_documents(shape=(4, 5)).run()
    received: dict[bool, list[str]] = {True: [], False: []}
    streams = {
        trust: open_stream(outgoing.replace("tcp://", "zmq://"), trust_pickle=trust) for trust in received
    }
    threads = [
        threading.Thread(
            target=stream.run, args=(lambda name, doc, to=received[trust]: to.append(name),), daemon=True
        )
        for trust, stream in streams.items()
    ]
    for thread in threads:
        thread.start()
    publisher = Publisher(incoming.removeprefix("tcp://"))

    def knock() -> bool:
        publisher("start", documents[0][1])
        return bool(received[True]) and "--trust-pickle" in caplog.text

    wait_until(knock)
    for name, doc in documents[1:]:
        publisher(name, doc)
    wait_until(lambda: received[True][-1:] == ["stop"])
    publisher.close()
    for stream, thread in zip(streams.values(), threads, strict=True):
        stream.stop()
        thread.join(240)
        assert not thread.is_alive()
    assert received[False] == []


@pytest.mark.parametrize(
    "address", ["", "127.0.0.1", "zmq://:x", "http://127.0.0.1:1", "kafka://b:1", "kafka://b:1/a,b"]
)
def test_an_address_that_nothing_can_be_sent_to_is_refused(address):
    with pytest.raises(StreamError, match=r"give 127.0.0.1:5577 or kafka://broker:9092/topic"):
        DocumentPublisher(address)


def test_what_to_analyse_must_be_said(tmp_path: Path):
    with pytest.raises(StreamError, match=r"give zmq://127.0.0.1:5578"):
        analyse("abc")
    with pytest.raises(NimcoError, match=r"does not answer at http://127.0.0.1:9"):
        analyse("zmq://:1", tiled="http://127.0.0.1:9")
    with pytest.raises(NimcoError, match="key file"):
        analyse("zmq://:1", tiled="http://127.0.0.1:9", api_key_file=tmp_path / "none")
