"""Live maps of runs that other plans made, under a real RunEngine: bluesky's own list_scan, and the manner of FXI."""

import time

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import h5py
import numpy as np
import pytest
from bluesky import Msg, RunEngine
from bluesky.plans import count, list_scan
from bluesky.utils import RunEngineInterrupted
from ophyd import Device, Signal
from ophyd.status import DeviceStatus

from callbacks import (
    CallbackError,
    ForeignLayout,
    ForeignRuns,
    FrameFile,
    LiveSOC,
    RawRunWriter,
    has_value,
    open_soc,
    planned_energies,
)
from nimco._commands import reanalyse
from nimco._layouts import read_layout
from nimco.errors import NimcoError


class Axis(Device):
    """An energy axis of a beamline that counts in its own unit."""

    def __init__(self, name, unit):
        super().__init__(name=name)
        self._unit = unit
        self.value = 0.0

    def set(self, value):
        self.value = float(value)
        status = DeviceStatus(self)
        status.set_finished()
        return status

    def stop(self, *, success=False):
        pass

    def read(self):
        return {self.name: {"value": self.value, "timestamp": time.time()}}

    def describe(self):
        return {self.name: {"source": "axis", "dtype": "number", "shape": [], "units": self._unit}}

    @property
    def hints(self):
        return {"fields": [self.name]}

    def read_configuration(self):
        return {}

    describe_configuration = read_configuration


class Camera(Device):
    """A camera that sees what `show` gives, several images an event."""

    def __init__(self, name, show, images=1, shape=(12, 16)):
        super().__init__(name=name)
        self._show, self._images, self._frame_shape = show, images, shape
        self.exposure = Signal(name=f"{name}_cam_acquire_time", value=1.0)
        self._frames = None

    def trigger(self):
        self._frames = np.stack([self._show() for _ in range(self._images)])
        status = DeviceStatus(self)
        status.set_finished()
        return status

    def read(self):
        return {f"{self.name}_image": {"value": self._frames, "timestamp": time.time()}}

    def describe(self):
        shape = [self._images, *self._frame_shape]
        return {
            f"{self.name}_image": {"source": "camera", "dtype": "array", "shape": shape, "dtype_numpy": "<u2"}
        }

    @property
    def hints(self):
        return {"fields": []}

    def read_configuration(self):
        return self.exposure.read()

    def describe_configuration(self):
        return self.exposure.describe()


class Beamline:
    """Somebody else's devices in front of a sample of known state of charge."""

    def __init__(self, scan, unit="eV", images=1):
        self.scan, self.scale = scan, 1e-3 if unit == "keV" else 1.0
        self.energy = Axis("mono", unit)
        self.camera = Camera("andor", self.show, images, scan.shape)
        self.energies = (scan.energies_ev * self.scale).tolist()
        self.mode = "primary"

    def show(self):
        if self.mode == "dark":
            return self.scan._shot(np.zeros(self.scan.shape))
        if self.mode == "flat":
            return self.scan.flat()
        return self.scan.frame(int(np.argmin(np.abs(self.scan.energies_ev - self.energy.value / self.scale))))

    def take(self, mode, n=1):
        """One stream's frames, by a plan of theirs."""
        self.mode = mode
        for _ in range(n):
            yield from bps.trigger_and_read([self.camera, self.energy], name=mode)


@pytest.fixture
def scan(scan_documents):
    return scan_documents()


def layout(scan, **more):
    return ForeignLayout("Ni K", "andor", "mono", references=scan.references, **more)


def live_map(layouts, plans):
    """Run plans; the last run's map, the errors, and the documents."""
    documents = []
    RE = RunEngine({})
    with LiveSOC(layouts=layouts) as live:
        RE.subscribe(live)
        RE.subscribe(lambda name, doc: documents.append((name, doc)))
        for plan in plans:
            RE(plan)
        live.wait(240)
        uid = [doc["uid"] for name, doc in documents if name == "start"][-1]
        try:
            return live.latest(uid), live.errors, documents
        except CallbackError:
            return None, live.errors, documents


def assert_true(update, errors, scan, n_energies=36):
    assert errors == []
    assert update.attrs["final"]
    assert update.attrs["n_frames"] == update.attrs["frames_expected"] == n_energies
    assert has_value(update).all()
    assert float(np.sqrt(np.mean((update["soc"].values - scan.soc) ** 2))) < 0.01
    # Energies in any order leave single values of noise that stick out of the frame before.
    assert [said for said in update.attrs["warnings"] if "stick out" not in said] == []


def in_one_run(line, order=("dark", "primary", "flat"), md=None):
    """All frames in one run, each kind in a stream of its own."""

    @bpp.run_decorator(
        md={
            "plan_name": "xanes_scan2",
            "detectors": ["andor"],
            "motors": ["mono"],
            "plan_pattern_args": {"args": ["mono", line.energies]},
            **(md or {}),
        }
    )
    def inside():
        for kind in order:
            if kind == "dark":
                yield from line.take("dark", 3)
                continue
            for energy in line.energies:
                yield from bps.checkpoint()
                yield from bps.mv(line.energy, energy)
                yield from line.take(kind)

    return inside()


@pytest.mark.parametrize("unit", ["eV", "keV"])
@pytest.mark.parametrize("images", [1, 4])
def test_all_frames_then_the_flats_in_one_run(scan, unit, images):
    line = Beamline(scan, unit, images)
    update, errors, _ = live_map([layout(scan, exposure_s="andor_cam_acquire_time")], [in_one_run(line)])
    assert_true(update, errors, scan)
    assert update.attrs["edge"] == "Ni_K"
    assert np.allclose(update["energy_ev"].values, scan.energies_ev)


def test_streams_of_other_names_and_energies_in_any_order(scan):
    line = Beamline(scan)
    line.energies = np.random.default_rng(3).permutation(line.energies).tolist()
    renamed = layout(scan, streams={"primary": "flat", "sample": "primary", "dark": "dark"})

    @bpp.run_decorator(
        md={
            "detectors": ["andor"],
            "motors": ["mono"],
            "plan_pattern_args": {"args": ["mono", line.energies]},
        }
    )
    def inside():
        yield from line.take("dark")
        for energy in line.energies:
            yield from bps.mv(line.energy, energy)
            line.mode = "flat"
            yield from bps.trigger_and_read([line.camera, line.energy], name="primary")
            line.mode = "primary"
            yield from bps.trigger_and_read([line.camera, line.energy], name="sample")

    update, errors, _ = live_map([renamed], [inside()])
    assert_true(update, errors, scan)


def test_a_plain_list_scan_with_flats_and_darks_as_runs_of_their_own(scan):
    line = Beamline(scan)

    def mode(kind):
        line.mode = kind
        yield Msg("null")

    def plan(kind, inner):
        yield from mode(kind)
        yield from inner

    known = layout(
        scan, flat_runs={"purpose": "open beam"}, dark_runs={"purpose": "no beam"}, n_flats=4, n_darks=2
    )
    plans = [
        plan("dark", count([line.camera], 2, md={"purpose": "no beam"})),
        plan("flat", count([line.camera], 4, md={"purpose": "open beam"})),
        plan("primary", list_scan([line.camera], line.energy, line.energies)),
    ]
    update, errors, documents = live_map([known], plans)
    assert_true(update, errors, scan)
    assert update.attrs["raw_uid"] == [doc["uid"] for name, doc in documents if name == "start"][-1]


def test_a_plain_list_scan_with_flats_and_darks_in_files(scan, tmp_path):
    line = Beamline(scan)
    path = tmp_path / "open beam.h5"
    with h5py.File(path, "w") as file:
        file["flats"] = np.stack([scan.flat() for _ in range(3)])
        file["dark"] = scan._shot(np.zeros(scan.shape))
    known = layout(scan, flats=FrameFile(path, "flats"), darks=FrameFile(path, "dark"), n_flats=3)
    update, errors, _ = live_map([known], [list_scan([line.camera], line.energy, line.energies)])
    assert_true(update, errors, scan)
    broken = layout(scan, flats=FrameFile(path, "nowhere"), darks=FrameFile(path, "dark"))
    update, errors, _ = live_map([broken], [list_scan([line.camera], line.energy, line.energies)])
    assert update is None
    assert "no frames can be read from nowhere" in str(errors[0])


def test_one_stream_with_a_key_that_says_what_a_frame_is(scan):
    line = Beamline(scan)
    key = Signal(name="image_key", value=0)

    @bpp.run_decorator(
        md={
            "detectors": ["andor"],
            "motors": ["mono"],
            "plan_pattern_args": {"args": ["mono", line.energies]},
        }
    )
    def inside():
        for value, kind in ((2, "dark"), (1, "flat"), (0, "primary")):
            yield from bps.mv(key, value)
            line.mode = kind
            for energy in line.energies[: 2 if kind == "dark" else None]:
                yield from bps.mv(line.energy, energy)
                yield from bps.trigger_and_read([line.camera, line.energy, key])

    update, errors, _ = live_map([layout(scan, frame_type="image_key", n_darks=2)], [inside()])
    assert_true(update, errors, scan)


def test_energies_that_nobody_announced(scan):
    line = Beamline(scan, "keV")
    run = in_one_run(line, md={"plan_pattern_args": "a loop of mine"})
    update, errors, _ = live_map([layout(scan)], [run])
    assert_true(update, errors, scan)


def test_a_pause_takes_frames_again_and_none_twice(scan):
    line = Beamline(scan)
    documents = []
    RE = RunEngine({})
    with LiveSOC(layouts=[layout(scan)]) as live:
        RE.subscribe(live)
        RE.subscribe(lambda name, doc: documents.append((name, doc)))

        with pytest.raises(RunEngineInterrupted):
            RE(bpp.plan_mutator(in_one_run(line), _pause_once(line)))
        line.mode = "primary"
        RE.resume()
        live.wait(240)
        update = live.latest()
    numbers = [doc["seq_num"] for name, doc in documents if name == "event"]
    assert len(numbers) > len(set(numbers)) or len(numbers) >= 75
    assert_true(update, live.errors, scan)


def _pause_once(line):
    paused = []

    def mutate(msg):
        if (
            msg.command == "save"
            and line.mode == "primary"
            and line.energy.value == line.energies[9]
            and not paused
        ):
            paused.append(True)

            def after():
                yield Msg("pause", defer=False)

            return None, after()
        return None, None

    return mutate


def test_other_runs_and_our_own_pass_untouched(scan):
    foreign = ForeignRuns([layout(scan)])
    for name, doc in [
        *scan.run(),
        ("start", {"uid": "x", "detectors": 3, "motors": None}),
        ("event", {"uid": "e"}),
    ]:
        assert foreign.translate(name, doc) == [(name, doc)]


def test_planned_energies_of_bluesky_s_scans():
    assert planned_energies({"plan_pattern_args": {"args": ["m", [1, 2.5]]}}) == [1.0, 2.5]
    assert planned_energies({"plan_pattern_args": {"args": ["m", 1, 3]}, "num_points": 3}) == [1.0, 2.0, 3.0]
    for strange in (
        {},
        {"plan_pattern_args": 3},
        {"plan_pattern_args": {"args": ["m", ["a"]]}},
        {"plan_pattern_args": {"args": "abc"}},
    ):
        assert planned_energies(strange) is None


def test_stored_runs_of_other_plans_are_analysed_anew(scan, tmp_path, tiled_server, monkeypatch, capsys):
    """A list scan, with flats and darks as runs of their own, from Tiled alone, by the command."""
    line = Beamline(scan)
    uids = []
    RE = RunEngine({})

    def of(kind, plan):
        line.mode = kind
        uids.extend(RE(plan))

    with RawRunWriter(tiled_server.raw) as writer:
        RE.subscribe(writer)
        of("dark", count([line.camera], 2))
        of("flat", count([line.camera], 4))
        of("primary", list_scan([line.camera], line.energy, line.energies))
        writer.wait(120)
    dark, flat, run = uids
    layout_file = tmp_path / "plans.toml"
    layout_file.write_text('edge = "Ni"\ncamera = "andor"\nenergy = "mono"\nn_flats = 4\nn_darks = 2\n')
    references = []
    for soc, mu in zip(scan.references.soc, scan.references.mu, strict=True):
        path = tmp_path / f"reference {soc:g}.txt"
        np.savetxt(path, np.column_stack([scan.references.energy_ev, mu]), header="energy mu")
        references.append(f"{path}={soc}")
    monkeypatch.setenv("TILED_API_KEY", tiled_server.api_key)
    given = {"tiled": tiled_server.uri, "references": [",".join(references)], "data_dir": tmp_path / "data"}
    with pytest.raises(NimcoError, match="say with --layout FILE"):
        reanalyse([run[:12]], **given)
    with pytest.raises(NimcoError, match="go with --layout"):
        reanalyse([run[:12]], **given, flat_run=flat)
    reanalyse([run[:12]], **given, layout=layout_file, flat_run=flat, dark_run=dark)
    soc = open_soc(tiled_server.client(), run)
    assert float(np.sqrt(np.mean((soc["soc"].values - scan.soc) ** 2))) < 0.01
    assert soc.attrs["n_frames"] == scan.energies_ev.size
    assert soc.attrs["warnings"] == []
    options = soc.attrs["analysis"]["options"]
    assert options["layout"] == "plans"
    assert "root_map" not in options
    assert "version" not in capsys.readouterr().out
    root = [f"/data={tmp_path}"]
    reanalyse([run[:12]], **given, layout=layout_file, flat_run=flat, dark_run=dark, root=root)
    said = capsys.readouterr().out
    assert f"of run {run[:8]} at Ni_K are version 2 now; the former map is kept as version 1" in said
    assert open_soc(tiled_server.client(), run).attrs["analysis"]["options"]["root_map"] == {
        "/data": str(tmp_path)
    }
    assert "root_map" not in open_soc(tiled_server.client(), run, version=1).attrs["analysis"]["options"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("edge = ", "cannot be read"),
        ('edge = "Ni"\ncamera = "c"', "does not say the energy"),
        ('edge = "Fe"\ncamera = "c"\nenergy = "e"', "there is no edge 'Fe'"),
        ('edge = "Ni"\ncamera = "c"\nenergy = "e"\nspeed = 3', "'speed', which means nothing"),
        ('edge = "Ni"\ncamera = "c"\nenergy = "e"\nexposure_s = 500', "seconds are meant"),
        ('edge = "Ni"\ncamera = "c"\nenergy = "e"\npixel_size_nm = 0.04', "0.04 um are 40 nm"),
        (
            'edge = "Ni"\ncamera = "c"\nenergy = "e"\nflats = "file.h5"',
            "must be a table with path and dataset",
        ),
    ],
)
def test_a_layout_that_says_nothing_is_refused(tmp_path, text, said):
    path = tmp_path / "layout.toml"
    path.write_text(text)
    with pytest.raises(NimcoError, match=said):
        read_layout(path)
    with pytest.raises(NimcoError, match="cannot be read"):
        read_layout(tmp_path / "none.toml")


def test_a_layout_from_a_file(tmp_path):
    path = tmp_path / "layout.toml"
    path.write_text(
        'edge = "Co K"\ncamera = "c"\nenergy = "e"\nenergies_key = "wanted"\nframe_type = "kind"\n'
        '[frame_types]\n0 = "primary"\n"-1" = "dark"\n[flats]\npath = "open.h5"\ndataset = "exchange/white"\n'
    )
    layout = read_layout(path)
    assert layout.edge == "Co_K"
    assert layout.frame_types == {0: "primary", -1: "dark"}
    assert layout.flats == FrameFile(tmp_path / "open.h5", "exchange/white")
    assert layout.energies({"wanted": [7700.0]}) == [7700.0]
