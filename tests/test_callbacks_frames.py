import event_model
import numpy as np
import pytest

from callbacks import CallbackError, Channel, DocumentError, FrameError, RunReadings, read_run
from callbacks.reduce import DarksAndFlats
from scan_contract import Label, Shot, label_data_keys, shot_values


def frames_of(documents):
    reader = RunReadings(read_run(documents[0][1]))
    return [frame for name, doc in documents[1:] for frame in reader.add(name, doc)]


def test_every_event_gives_one_frame_that_says_what_it_is(scan_documents):
    scan = scan_documents()
    documents = scan.run()
    frames = frames_of(documents)
    assert [frame.stream for frame in frames[:4]] == ["dark", "dark", "flat", "primary"]
    primary = [frame for frame in frames if frame.stream == "primary"]
    assert [frame.energy_index for frame in primary] == list(range(scan.energies_ev.size))
    assert np.allclose([frame.energy_ev for frame in primary], scan.energies_ev)
    assert primary[5].image.dtype == np.uint16
    assert primary[5].image.shape == scan.shape


def test_the_energy_is_the_readback_not_the_setpoint(scan_documents):
    scan = scan_documents()
    (frame,) = frames_of(scan.run([("primary", 7, scan.frame(7), {"energy": 8333.37})]))
    assert frame.energy_ev == 8333.37
    assert frame.energy_setpoint_ev == pytest.approx(scan.energies_ev[7])


def test_a_document_seen_twice_gives_one_frame(scan_documents):
    documents = scan_documents().run()
    doubled = [documents[0], *(document for document in documents[1:] for _ in range(2))]
    assert len(frames_of(doubled)) == len(frames_of(documents))


def test_pages_and_json_lists_are_understood(scan_documents):
    from event_model import pack_event_page

    scan = scan_documents()
    documents = scan.run([("primary", index, scan.frame(index)) for index in range(3)])
    events = [doc for name, doc in documents if name == "event"]
    for event in events:
        event["data"]["camera_image"] = event["data"]["camera_image"].tolist()
    reader = RunReadings(read_run(documents[0][1]))
    reader.add(*documents[1])
    frames = reader.add("event_page", pack_event_page(*events))
    assert [frame.energy_index for frame in frames] == [0, 1, 2]
    assert frames[0].image.dtype == np.uint16


def test_a_flat_waveform_is_given_its_shape(scan_documents):
    scan = scan_documents()
    image = scan.frame(2)
    (frame,) = frames_of(scan.run([("primary", 2, image.ravel())]))
    assert np.array_equal(frame.image, image)


def test_a_frame_of_another_shape_is_refused(scan_documents):
    scan = scan_documents()
    with pytest.raises(FrameError, match=r"shape \(5, 5\).*left out"):
        frames_of(scan.run([("primary", 0, np.zeros((5, 5), np.uint16))]))


def test_a_start_document_without_its_contract_is_refused(scan_documents):
    start = dict(scan_documents().run()[0][1])
    with pytest.raises(DocumentError, match="edge is missing"):
        read_run(
            {**start, "xanes": {"schema_version": 1, "energies_ev": [], "exposure_s": [], "devices": {}}}
        )
    with pytest.raises(DocumentError, match="version 3"):
        read_run({**start, "xanes": {**start["xanes"], "schema_version": 3}})
    with pytest.raises(DocumentError, match="Fe_K"):
        read_run({**start, "xanes": {**start["xanes"], "edge": "Fe_K"}})


def test_the_contract_of_version_two_is_read(scan_documents):
    start = dict(scan_documents().run()[0][1])
    written = read_run(start).scan.to_dict()
    assert written["schema_version"] == 2
    assert read_run({**start, "xanes": written}).scan == read_run(start).scan


def test_scalars_and_spectra_are_read_with_their_labels():
    """One event per place of a raster: a photodiode, and the spectrum of a fluorescence detector."""
    block = {
        "schema_version": 2, "technique": "raster", "edge": "Ni_K", "energies_ev": [8300.0, 8400.0],
        "exposure_s": [0.1, 0.1], "axes": {"row": [0.0, 1.0, 2.0]},
        "devices": {"diode": "pd", "mca": "xspress", "energy": "mono"},
    }  # fmt: skip
    run = event_model.compose_run(metadata={"xanes": block})
    number = {"dtype": "number", "shape": [], "dtype_numpy": "<f8", "source": "test"}
    descriptor = run.compose_descriptor(
        name="primary",
        data_keys={
            "pd_current": number,
            "mono": number,
            "xspress_mca": {"dtype": "array", "shape": [4], "dtype_numpy": "<u4", "source": "test"},
            **label_data_keys(("row",)),
        },
        object_keys={"pd": ["pd_current"], "mono": ["mono"], "xspress": ["xspress_mca"]},
        hints={"pd": {"fields": ["pd_current"]}, "mono": {"fields": ["mono"]}},
    )
    channels = {"diode": Channel("diode", "scalar"), "mca": Channel("mca", "spectrum")}
    reader = RunReadings(read_run(run.start_doc), channels)
    reader.add("descriptor", descriptor.descriptor_doc)

    def read(row, spectrum):
        shot = Shot("primary", 1, 8400.0, 0.1, 0, axes=(("row", row),))
        data = {"pd_current": 2.5e-6, "mono": 8400.2, "xspress_mca": spectrum, **shot_values(shot, 3)}
        return reader.add("event", descriptor.compose_event(data=data, timestamps=dict.fromkeys(data, 0.0)))

    (reading,) = read(2, [1, 2, 3, 4])
    assert reading.label == Label("primary", 1, 0, 3, {"row": 2})
    assert reading.slot == ("primary", 1, 0, ("row", 2))
    assert (reading.energy_ev, reading.channels["diode"], reading.exposure_s) == (8400.2, 2.5e-6, 0.1)
    assert reading.channels["mca"].dtype == np.uint32
    assert reading.channels["mca"].tolist() == [1, 2, 3, 4]
    with pytest.raises(FrameError, match=r"3 values .*\(4,\) was announced"):
        read(1, [1, 2, 3])
    assert ("primary", 1, 0, ("row", 1)) in reader.left_out
    with pytest.raises(CallbackError, match="more than one image"):
        RunReadings(read_run(run.start_doc), {name: Channel(name, "image") for name in "ab"})


def test_a_stream_without_an_image_is_refused(scan_documents):
    documents = scan_documents().run()
    descriptor = dict(documents[1][1])
    descriptor["object_keys"] = {**descriptor["object_keys"], "camera": []}
    with pytest.raises(DocumentError, match="0 images of camera 'camera'"):
        RunReadings(read_run(documents[0][1])).add("descriptor", descriptor)


class TestFlatField:
    @staticmethod
    def ready(scan, steps, *, finish=False):
        documents = scan.run(steps)
        contract = read_run(documents[0][1])
        reader, book = RunReadings(contract), DarksAndFlats(contract.scan)
        ready = [
            done for name, doc in documents[1:] for frame in reader.add(name, doc) for done in book.add(frame)
        ]
        return ([*ready, *book.finish()], book) if finish else (ready, book)

    @staticmethod
    def depth(ready):
        return -np.log((ready.reading.image - ready.dark) / ready.flat * ready.scale)

    def test_optical_depth_with_other_exposure_and_i0_of_the_flat(self, scan_documents):
        scan = scan_documents(counts=1e4)
        scan.xanes["exposure_s"] = [2.0] * scan.energies_ev.size
        darks = [("dark", -1, scan._shot(np.zeros(scan.shape)), {"xanes_exposure_s": t}) for t in (2.0, 0.5)]
        scan.xanes["n_darks"] = 1
        steps = [
            *darks,
            ("flat", 20, scan.flat(exposure_s=0.5, i0=1.3), {"xanes_exposure_s": 0.5, "i0": 1.3}),
            ("primary", 20, scan.frame(20, exposure_s=2.0, i0=0.9), {"xanes_exposure_s": 2.0, "i0": 0.9}),
        ]
        (ready,), _ = self.ready(scan, steps)
        energy = scan.energies_ev[20]
        truth = 0.3 - 1e-4 * (energy - 8340) + scan.jump * scan.spectrum(energy, scan.soc)
        assert np.abs(self.depth(ready) - truth).max() < 1e-3

    @pytest.mark.parametrize("order", ["frames first", "flats in between", "darks last"])
    def test_frames_wait_for_flats_and_darks_and_none_is_lost(self, scan_documents, order):
        scan = scan_documents()
        steps = scan.steps()
        rank = {
            "frames first": {"primary": 0, "dark": 1, "flat": 2},
            "flats in between": {"flat": 0, "dark": 1, "primary": 2},
            "darks last": {"primary": 0, "flat": 1, "dark": 2},
        }[order]
        ready, book = self.ready(scan, sorted(steps, key=lambda step: rank[step[0]]))
        assert sorted(done.reading.energy_index for done in ready) == list(range(scan.energies_ev.size))
        assert book.n_waiting == 0
        assert book.warnings == []

    def test_flats_and_darks_are_averaged(self, scan_documents):
        scan = scan_documents(n_flats=2)
        base = scan.flat().astype(int)
        steps = [
            ("dark", -1, np.full(scan.shape, 90, np.uint16), {"xanes_repeat": 0}),
            ("dark", -1, np.full(scan.shape, 110, np.uint16), {"xanes_repeat": 1}),
            ("flat", 3, (base - 50).astype(np.uint16), {"xanes_repeat": 0}),
            ("primary", 3, scan.frame(3)),
            ("flat", 3, (base + 50).astype(np.uint16), {"xanes_repeat": 1}),
        ]
        (ready,), _ = self.ready(scan, steps)
        assert np.allclose(ready.dark, 100)
        assert np.allclose(ready.flat, base - 100)

    def test_a_flat_taken_again_replaces_the_first(self, scan_documents):
        scan = scan_documents(n_darks=0)
        steps = [
            ("flat", 3, np.full(scan.shape, 5, np.uint16)),
            ("flat", 3, np.full(scan.shape, 4000, np.uint16), {"xanes_attempt": 1}),
            ("primary", 3, scan.frame(3)),
        ]
        (ready,), _ = self.ready(scan, steps)
        assert np.allclose(ready.flat, 4000)

    def test_flats_for_all_energies(self, scan_documents):
        scan = scan_documents(n_flats=2)
        flats = [("flat", -1, scan.flat(), {"xanes_repeat": repeat}) for repeat in range(2)]
        steps = [step for step in scan.steps() if step[0] != "flat"]
        ready, _ = self.ready(scan, [*flats, *steps])
        assert len(ready) == scan.energies_ev.size

    def test_frames_left_over_at_the_end_take_the_nearest_flat_and_say_so(self, scan_documents):
        scan = scan_documents()
        steps = [step for step in scan.steps() if not (step[0] == "flat" and step[1] == 9)]
        ready, book = self.ready(scan, steps, finish=True)
        assert len(ready) == scan.energies_ev.size
        assert any("no flat field of its own" in warning for warning in book.warnings)

    def test_without_any_flat_nothing_is_made_up(self, scan_documents):
        scan = scan_documents()
        ready, book = self.ready(scan, [step for step in scan.steps() if step[0] != "flat"], finish=True)
        assert ready == []
        assert any("no flat field was recorded" in warning for warning in book.warnings)

    def test_a_missing_dark_exposure_takes_the_nearest_and_says_so(self, scan_documents):
        scan = scan_documents(n_darks=1)
        scan.xanes["exposure_s"] = [2.0] * scan.energies_ev.size
        steps = [
            ("dark", -1, np.full(scan.shape, 100, np.uint16), {"xanes_exposure_s": 0.5}),
            ("flat", 3, scan.flat()),
            ("primary", 3, scan.frame(3), {"xanes_exposure_s": 2.0}),
        ]
        ready, book = self.ready(scan, steps, finish=True)
        assert len(ready) == 1
        assert any("no dark of 2 s" in warning for warning in book.warnings)


def test_a_stream_whose_image_has_no_size_is_refused(scan_documents):
    documents = scan_documents().run()
    descriptor = next(doc for name, doc in documents if name == "descriptor")
    keys = {
        key: {**about, "shape": [None, 5]} if len(about["shape"]) > 1 else about
        for key, about in descriptor["data_keys"].items()
    }
    with pytest.raises(
        DocumentError, match=r"does not say how large 'camera_image' is: its shape is \[None, 5\]"
    ):
        RunReadings(read_run(documents[0][1])).add("descriptor", {**descriptor, "data_keys": keys})
