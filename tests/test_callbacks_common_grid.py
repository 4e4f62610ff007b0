"""Maps of several edges or cycles of one measurement, of a sample that drifts in between, on one grid."""

from typing import Any

import numpy as np
import pytest
from bluesky import RunEngine
from scipy.ndimage import gaussian_filter

from beamline_plans import EnergyGrid, multi_edge_xanes, xanes_series
from callbacks import (
    LiveSOC,
    RawRunWriter,
    ReadingError,
    SOCPublisher,
    follow_series,
    open_soc_group,
    stored_fields,
)  # fmt: skip
from edge_fitting import EdgeFittingError, FitStatus, register_image, resample_frame
from nimco.testing import devices_of
from sim_devices import OpticsSettings, SampleSettings, SimBeamline, Twin, TwinSettings

# Above and below each edge, and at it.
STEPS_EV = np.array([-60.0, -40.0, -20.0, -8.0, -2.0, 2.0, 6.0, 10.0, 14.0, 20.0, 30.0, 45.0, 70.0, 100.0])
EDGES_EV = {"Ni_K": 8340.0, "Mn_K": 6550.0, "Co_K": 7718.0}
GRIDS = {edge: EnergyGrid(tuple(at + STEPS_EV), 0.3) for edge, at in EDGES_EV.items()}


class Measured:
    """Runs of a drifting twin: their uids, and where the sample was in each of their frames."""

    def __init__(self, publisher: Any, plan: Any, twin: SimBeamline, **options: Any) -> None:
        self.seen: dict[str, list[tuple[float, float]]] = {}
        self.starts: dict[str, dict[str, Any]] = {}
        self.documents: list[tuple[str, dict[str, Any]]] = []
        running = ""

        def note(name: str, doc: dict[str, Any]) -> None:
            nonlocal running
            if name == "start":
                running = doc["uid"]
                self.starts[running] = doc
            self.documents.append((name, doc))
            seen = twin.twin.last_exposure
            if name == "event" and seen.sample_in and seen.shutter_open:
                self.seen.setdefault(running, []).append(seen.shift_px)

        engine = RunEngine()
        engine.subscribe(note)
        self.results: dict[str, Any] = {}
        with LiveSOC(update_period_s=1e9, subscribers=[publisher], **options) as live:
            engine.subscribe(live)
            engine(plan)
            live.wait(240)
            publisher.wait(60)
            assert not live.errors
            for uid in self.seen:
                self.results[uid] = live.latest(uid)

    def place_px(self, uid: str) -> Any:
        """Where the sample is in the maps of a run: in its first frame, or on average where it hardly drifts."""
        is_registered = np.isfinite(self.results[uid]["frame_shift_row_px"].values).any()
        return np.array(self.seen[uid][0]) if is_registered else np.mean(self.seen[uid], axis=0)

    def shift_px(self, uid: str) -> Any:
        """True displacement of a run's grid against that of the first run."""
        return self.place_px(uid) - self.place_px(next(iter(self.seen)))


def drifting_twin(seed: int = 5) -> SimBeamline:
    optics = OpticsSettings(drift_nm=400.0, drift_period_s=700.0)
    return SimBeamline((96, 96), seed=seed, settings=TwinSettings(optics=optics))


def test_maps_of_three_edges_lie_on_one_grid_live_and_read_back(tiled_server: Any) -> None:
    twin, client = drifting_twin(), tiled_server.client()
    plan = multi_edge_xanes(
        *devices_of(twin),
        edges=list(EDGES_EV),
        grids=GRIDS,
        i0=twin.i0,
        n_darks=1,
        md={"scan_group": "nmc-1"},
    )
    with SOCPublisher(client["maps"]) as publisher:
        measured = Measured(publisher, plan, twin)
    first, *others = measured.seen
    assert measured.results[first].attrs["grid"] is None
    for uid in others:
        found = measured.results[uid].attrs
        assert np.hypot(*measured.shift_px(uid)) > 1.0
        assert found["grid"]["raw_uid"] == first
        np.testing.assert_allclose(found["grid"]["shift_px"], measured.shift_px(uid), atol=0.15)
        assert any("px off those of Ni K" in said for said in found["warnings"])
    maps = open_soc_group(client, others[0][:12])  # a run stands for its measurement
    assert list(maps["edge"].values) == list(EDGES_EV)
    assert maps["on_grid"].all()
    wrong = maps["grid_shift_px"].values - [measured.shift_px(uid) for uid in measured.seen]
    assert np.abs(wrong).max() < 0.15
    assert list(maps["raw_uid"].values) == list(measured.seen)
    # Each map shows the sample where the first one does; as they came they do not.
    left = open_soc_group(client, list(measured.seen)[:2], register=False)
    together, apart = (
        np.corrcoef(*found["optical_depth"].values[:2, 9:-9, 9:-9].reshape(2, -1))[0, 1]
        for found in (maps, left)
    )
    assert 1.0 - together < 0.2 * (1.0 - apart)
    outside = np.isnan(maps["optical_depth"].values)
    assert outside[1:].any()
    assert (maps["status"].values[outside] == FitStatus.NO_DATA).all()
    np.testing.assert_array_equal(maps["edge_jump"].values[0], left["edge_jump"].values[0])
    with pytest.raises(ReadingError, match="no maps of 'nothing'"):
        open_soc_group(client, "nothing")


def test_cycles_of_a_series_lie_on_the_grid_of_the_first_one(tiled_server: Any) -> None:
    twin, client = drifting_twin(8), tiled_server.client()
    plan = xanes_series(
        *devices_of(twin),
        edges=["Ni_K"],
        grids={"Ni_K": GRIDS["Ni_K"]},
        n_cycles=2,
        i0=twin.i0,
        n_darks=1,
        flat_order="after_all",
    )
    with SOCPublisher(client["maps"]) as publisher:
        measured = Measured(publisher, plan, twin)
    series = next(iter(measured.starts.values()))["series_group"]
    for uid in list(measured.seen)[1:]:
        grid = measured.results[uid].attrs["grid"]
        np.testing.assert_allclose(grid["shift_px"], measured.shift_px(uid), atol=0.15)
    with RawRunWriter(client["raw"]) as writer:
        for document in measured.documents:
            writer(*document)
        writer.wait(60)
    maps = open_soc_group(client, series)
    wrong = maps["grid_shift_px"].values - [measured.shift_px(uid) for uid in measured.seen]
    assert np.abs(wrong).max() < 0.15
    # What follows the particles takes that place of each map.
    (followed,) = follow_series(stored_fields(client, [series]))
    shifts = [followed[f"step_shift_{axis}_px"].values for axis in ("row", "column")]
    np.testing.assert_allclose(np.transpose(shifts), maps["grid_shift_px"].values, atol=1e-9)
    assert not [said for said in followed.attrs["warnings"] if "does not show the place" in said]


@pytest.mark.parametrize("optics", [{}, {"magnification_per_ev": 1e-5, "rotation_deg": 0.3}])
def test_pictures_of_two_edges_are_laid_on_each_other(optics: Any) -> None:
    settings = TwinSettings(
        optics=OpticsSettings(drift_nm=600.0, drift_period_s=700.0, **optics),
        sample=SampleSettings(nickel_excess=0.15),
    )
    twin = Twin((160, 176), pixel_size_nm=40.0, seed=4, settings=settings)
    twin.shutter_open = True

    def seen(energy_ev: float) -> Any:
        twin.energy_ev, twin.sample_in = energy_ev, False
        flat = twin.expose(2.0) - 100.0
        twin.sample_in = True
        return -np.log((twin.expose(2.0) - 100.0) / flat), twin.last_exposure

    reference, first = seen(8370.0)
    at = np.array([[y, x] for y in (-60.0, 0.0, 60.0) for x in (-66.0, 0.0, 66.0)])
    for energy_ev in (6570.0, 7740.0):
        twin.wait(97.0)
        picture, last = seen(energy_ev)
        place = register_image(picture, reference)
        change = turned(last.magnification / first.magnification, last.rotation_deg - first.rotation_deg)
        moved = (at - first.shift_px) @ change.T + last.shift_px
        taken_out = at @ turned(place.magnification, place.rotation_deg).T + place.shift_px
        assert place.found
        assert not place.warnings
        assert (place.magnification != 1.0) == bool(optics)
        assert np.sqrt(np.mean((moved - taken_out) ** 2)) < 0.15
        back = resample_frame(
            picture, place.shift_px, magnification=place.magnification, rotation_deg=place.rotation_deg
        )
        known = np.isfinite(back)
        assert np.corrcoef(back[known], reference[known])[0, 1] > 0.98


def test_pictures_with_nothing_in_common_have_no_place() -> None:
    random = np.random.default_rng(3)
    for _ in range(5):
        place = register_image(*random.standard_normal((2, 120, 100)))
        assert not place.found
        assert np.isinf(place.sigma_px).all()
        assert "nothing in common" in place.warnings[0]
    blobs = gaussian_filter(random.standard_normal((2, 200, 200)), (0, 3, 3))
    assert not register_image(*blobs).found
    assert "too small" in register_image(np.ones((12, 40)), np.ones((12, 40))).warnings[0]
    assert (
        "without a finite value" in register_image(np.full((40, 40), np.nan), np.ones((40, 40))).warnings[0]
    )
    with pytest.raises(EdgeFittingError, match="one shape"):
        register_image(np.ones((40, 40)), np.ones((40, 41)))


def turned(magnification: float, rotation_deg: float) -> Any:
    angle = np.radians(rotation_deg)
    return magnification * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
