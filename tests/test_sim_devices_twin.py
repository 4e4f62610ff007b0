"""Physics of the twin: frames against optical depths computed from its sample by hand, and every imperfection."""

from dataclasses import replace

import numpy as np
import pytest
import xraydb

from beamline_devices import DeviceError
from edge_fitting import resample_frame
from sim_devices import (
    CameraSettings,
    Fault,
    MonoSettings,
    OpticsSettings,
    SampleSettings,
    SourceSettings,
    Twin,
    TwinSettings,
)
from sim_devices.twin._absorption import SOC_NODES

IDEAL = TwinSettings.ideal()


def make(settings=IDEAL, *, shape=(64, 64), seed=2, **knobs):
    return Twin(shape, pixel_size_nm=300.0, seed=seed, settings=replace(settings, **knobs))


def frame(twin, *, energy_ev=8400.0, exposure_s=1.0, shutter_open=True, sample_in=True):
    twin.energy_ev, twin.shutter_open, twin.sample_in = energy_ev, shutter_open, sample_in
    return twin.expose(exposure_s).astype(float)


def optical_depth(twin, energy_ev):
    offset = twin.settings.camera.offset
    flat = frame(twin, energy_ev=energy_ev, sample_in=False) - offset
    return -np.log((frame(twin, energy_ev=energy_ev) - offset) / flat)


@pytest.mark.parametrize("energy_ev", [8300.0, 8345.0, 8353.0, 8500.0, 6556.0, 7725.0])
def test_ideal_frames_hold_the_optical_depth_of_the_sample(energy_ev):
    twin = make(sample=SampleSettings(film_depth=0.0, shell_excess=0.0, particle_spread=0.2))
    sample = twin.sample
    table = sample.absorber.table(energy_ev).astype(float)
    expected = sum(
        areal * np.interp(sample.soc, SOC_NODES, row) for areal, row in zip(sample.areal, table, strict=True)
    )[twin.view]
    # Rounding to whole counts of some 10 000 is all that is left; rays through two particles add a little.
    single = sample.soc_variance[twin.view] < 1e-6
    np.testing.assert_allclose(optical_depth(twin, energy_ev)[single], expected[single], atol=5e-4)
    assert single.mean() > 0.8


def test_spread_of_states_along_a_ray_adds_the_mean_of_their_spectra():
    """A core and a shell far apart: the ray sees the average absorption, not the absorption of the average."""
    excess = 0.9
    settings = replace(
        IDEAL,
        sample=SampleSettings(
            film_depth=0.0, shell_excess=excess, particle_spread=0.0, grain_spread=0.0, cracks=0.0, coverage=0.1,
            diameter_um=(7.0, 7.0), grain_roughness=0.0, density=1.0,
        ),
    )  # fmt: skip
    twin = Twin((80, 80), pixel_size_nm=250.0, seed=1, settings=settings)
    areas = twin.sample.areal[(slice(None), *twin.view)]
    thickness = areas.sum(axis=0)
    y, x = np.unravel_index(np.argmax(thickness), thickness.shape)
    energy_ev = 8352.5
    table = twin.sample.absorber.table(energy_ev).astype(float)
    r2 = np.random.default_rng(0).uniform(-1, 1, 200_000) ** 2
    states = np.clip(0.5 + excess * (r2 - 0.6), 0, 1)
    truth = sum(
        areal[y, x] * np.interp(states, SOC_NODES, row).mean()
        for areal, row in zip(areas, table, strict=True)
    )
    of_the_mean = sum(
        areal[y, x] * np.interp(twin.sample.soc[twin.view][y, x], SOC_NODES, row)
        for areal, row in zip(areas, table, strict=True)
    )
    measured = optical_depth(twin, energy_ev)[y, x]
    assert abs(of_the_mean - truth) > 0.005
    assert abs(measured - truth) < 0.4 * abs(of_the_mean - truth)


def test_truth_agrees_with_the_frames():
    """The edge of a standard, on what the tables say the rest of it absorbs."""
    twin = make(mono=MonoSettings())
    twin.load_pellet(0.5)
    truth = twin.truth("Ni_K")
    energy = np.arange(8325.0, 8360.0, 0.5)
    depth = np.array([optical_depth(twin, e).mean() for e in energy])
    mol_per_cm2 = 15e-4 * 4.75 / 96.93
    other = {"O": 2 * 15.999, "Li": 6.94, "Mn": 0.2 * 54.938, "Co": 0.2 * 58.933}
    below = np.linspace(7950.0, 8310.0, 30)
    power = np.polyfit(np.log(below), np.log(xraydb.mu_elam("Ni", below)), 1)
    rest = sum(mass * xraydb.mu_elam(element, energy) for element, mass in other.items())
    rest += 0.6 * 58.693 * np.exp(np.polyval(power, np.log(energy)))
    normal = (depth - mol_per_cm2 * rest) / truth.jump.mean()
    top = int(np.argmax(normal))
    last = int(np.flatnonzero(normal[:top] < 0.5)[-1])
    crossing = energy[last] + 0.5 * (0.5 - normal[last]) / (normal[last + 1] - normal[last])
    assert crossing == pytest.approx(float(truth.edge_energy_ev.mean()), abs=0.05)
    table_jump = (
        mol_per_cm2
        * 0.6
        * 58.693
        * (xraydb.mu_elam("Ni", 8334.0) - np.exp(np.polyval(power, np.log(8334.0))))
    )
    assert float(truth.jump.mean()) == pytest.approx(float(table_jump), rel=0.03)
    assert np.all(truth.mask)
    assert np.all(truth.soc == np.float32(0.5))


def test_truth_marks_places_without_material():
    truth = make().truth("Mn_K")
    assert np.all(np.isnan(truth.soc) == ~truth.mask)
    assert np.all(np.isnan(truth.edge_energy_ev) == ~truth.mask)
    assert 0.1 < truth.mask.mean() < 0.9
    assert np.all(truth.jump[truth.mask] > 0.01)


def test_sample_out_is_really_out_and_a_closed_shutter_is_really_dark():
    twin = make()
    assert np.ptp(frame(twin, sample_in=False)) == 0
    assert np.all(frame(twin, shutter_open=False) == twin.settings.camera.offset)
    assert np.ptp(frame(twin)) > 1000


def test_one_seed_gives_the_same_frames_in_the_same_order():
    a, b = make(TwinSettings()), make(TwinSettings())
    for _ in range(3):
        np.testing.assert_array_equal(frame(a), frame(b))
    assert not np.array_equal(frame(a), frame(a))


def test_exposure_scales_the_light_and_the_dark_charge():
    twin = make(
        camera=CameraSettings(shot_noise=False, read_noise=0, structure=0, pattern_noise=0, dark_per_s=50)
    )
    assert frame(twin, exposure_s=2.0, shutter_open=False).mean() == pytest.approx(200.0)
    dark1, dark2 = (frame(twin, exposure_s=t, shutter_open=False) for t in (0.5, 1.0))
    light1, light2 = (frame(twin, exposure_s=t, sample_in=False) for t in (0.5, 1.0))
    assert (light2 - dark2).mean() == pytest.approx(2 * (light1 - dark1).mean(), rel=1e-3)


def test_photon_noise_of_the_twin_is_poisson():
    twin = make(camera=replace(IDEAL.camera, shot_noise=True))
    stack = np.stack([frame(twin, sample_in=False) for _ in range(200)]) - twin.settings.camera.offset
    ratio = stack.var(axis=0, ddof=1).mean() / stack.mean()
    assert ratio == pytest.approx(1.0, abs=4 * np.sqrt(2 / (200 * stack[0].size)))


def test_source_decays_and_tops_up_and_i0_follows():
    twin = make(source=SourceSettings(lifetime_h=0.05, top_up_s=20.0, drift=0.03, drift_period_s=50.0))
    light, i0, ring = [], [], []
    for _ in range(45):
        light.append(frame(twin, sample_in=False).mean() - twin.settings.camera.offset)
        i0.append(twin.read_i0())
        ring.append(twin.ring_current_ma)
    assert np.ptp(light) / np.mean(light) > 0.05
    assert np.diff(ring).max() > 20
    np.testing.assert_allclose(np.array(light) / np.array(i0), light[0] / i0[0], rtol=1e-3)


def test_glitches_take_the_same_share_from_i0_and_frames():
    twin = make(mono=MonoSettings(resolution=0, glitch_depth=0.3))
    energy = np.arange(8200.0, 8500.0, 0.5)
    i0 = []
    for e in energy:
        twin.energy_ev = e
        i0.append(twin.read_i0())
    worst = energy[int(np.argmin(i0))]
    assert min(i0) < 0.97 * max(i0)
    usual = frame(twin, energy_ev=energy[int(np.argmax(i0))], sample_in=False).mean() - 100
    at_glitch = frame(twin, energy_ev=worst, sample_in=False).mean() - 100
    assert at_glitch / usual == pytest.approx(min(i0) / max(i0), abs=0.01)


def test_energy_offset_moves_the_edge_on_the_readback_axis():
    true, off = make(), make(mono=MonoSettings(resolution=0, offset_ev=-1.5))
    np.testing.assert_array_equal(frame(true, energy_ev=8346.0), frame(off, energy_ev=8344.5))
    difference = off.truth("Ni_K").edge_energy_ev - true.truth("Ni_K").edge_energy_ev
    assert np.nanmedian(difference) == pytest.approx(-1.5, abs=1e-3)


def test_stray_light_fills_thick_places():
    clean, stray = make(), make(optics=OpticsSettings(blur_nm=0, stray_light=0.03))
    depth, veiled = optical_depth(clean, 8400.0), optical_depth(stray, 8400.0)
    np.testing.assert_allclose(veiled, -np.log(0.97 * np.exp(-depth) + 0.03), atol=1e-3)


def test_magnification_changes_with_energy_about_the_centre():
    twin = make(optics=OpticsSettings(blur_nm=0, magnification_per_ev=1e-4, focus_ev=8400.0))
    nominal = make()
    np.testing.assert_array_equal(frame(twin), frame(nominal))
    far = np.abs(frame(twin, energy_ev=8600.0) - frame(nominal, energy_ev=8600.0))
    middle, rim = far[28:36, 28:36].mean(), np.r_[far[:6].ravel(), far[-6:].ravel()].mean()
    assert rim > 3 * middle


def test_the_sample_turns_counter_clockwise_about_the_middle_with_time():
    twin = make(optics=OpticsSettings(blur_nm=0, rotation_deg=8.0, drift_period_s=100.0))
    twin.wait(30.0)
    turned = frame(twin)
    angle = twin.last_exposure.rotation_deg
    assert 7.0 < angle <= 8.0
    nominal = make(optics=OpticsSettings(blur_nm=0, rotation_deg=8.0, drift_period_s=1e12))
    there, other = (resample_frame(turned, (0.0, 0.0), rotation_deg=sign * angle) for sign in (1, -1))
    inside = np.s_[14:-14, 14:-14]
    wrong, opposite = (np.std((back - frame(nominal))[inside]) for back in (there, other))
    assert wrong < 0.1 * opposite


def test_drift_runs_with_time_and_runout_with_energy():
    twin = make(optics=OpticsSettings(drift_nm=400.0, drift_period_s=100.0, runout_nm=200.0, focus_ev=8333.0))
    assert twin.last_exposure is None
    shifts = []
    for energy_ev in (8333.0, 8340.0, 8348.0, 8333.0):
        frame(twin, energy_ev=energy_ev)
        shifts.append(twin.last_exposure.shift_px)
        twin.wait(10.0)
    assert len({s[0] for s in shifts}) == 4
    assert np.abs(shifts).max() < 1.5 * (400 + 2 * 200) / 300


def test_far_from_the_centre_the_electrode_goes_on():
    """A displacement by one period of the maps shows the same place again."""
    twin = make(optics=OpticsSettings(blur_nm=0))
    period_um = twin.sample.soc.shape[1] * twin.pixel_size_nm * 1e-3
    here = frame(twin)
    twin.stage_um = (0.0, period_um)
    np.testing.assert_array_equal(frame(twin), here)
    twin.stage_um = (0.0, period_um / 2)
    assert np.abs(frame(twin) - here).max() > 1000


def test_hot_and_dead_pixels():
    twin = make(camera=CameraSettings(hot_pixels=0.01, dead_pixels=0.01, dark_per_s=4.0))
    dark = frame(twin, shutter_open=False)
    flat = frame(twin, sample_in=False)
    hot, dead = dark > 1000, flat < 1000
    assert 0.003 < hot.mean() < 0.03
    assert 0.003 < dead.mean() < 0.03


def test_full_well_caps_the_counts():
    twin = make(camera=CameraSettings(full_well=8191))
    assert frame(twin, sample_in=False).max() == 8191


def test_beam_trip_darkens_frames_and_their_i0():
    twin = make(TwinSettings())
    twin.faults.arm(Fault.BEAM_TRIP, after=1, times=2)
    seen = [(frame(twin, sample_in=False).mean() > 1000, twin.read_i0() > 1) for _ in range(4)]
    assert seen == [(True, True), (False, False), (False, False), (True, True)]


def test_beam_trip_is_seen_by_an_i0_read_before_the_camera():
    twin = make(TwinSettings())
    twin.faults.arm(Fault.BEAM_TRIP, after=1, times=1)
    seen = [(twin.read_i0() > 1, frame(twin, sample_in=False).mean() > 1000) for _ in range(1)]
    twin._unread = None
    seen += [(twin.read_i0() > 1, frame(twin, sample_in=False).mean() > 1000)]
    assert seen == [(True, True), (False, False)]


def test_harsh_and_ideal_settings_both_render():
    for settings in (TwinSettings.harsh(), TwinSettings.ideal()):
        counts = frame(make(settings))
        assert counts.std() > 100


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: make(shape=(4, 64)), "too small"),
        (lambda: make(camera=CameraSettings(gain=-1.0)), "CameraSettings.gain has to be a finite number"),
        (lambda: make(optics=OpticsSettings(blur_nm=np.nan)), "OpticsSettings.blur_nm has to be a finite"),
        (lambda: make(sample=SampleSettings(diameter_um=(5.0, -1.0))), "SampleSettings.diameter_um has to"),
        (lambda: make(source=SourceSettings(top_up_s=0.0)), "SourceSettings.top_up_s has to be above 0"),
        (lambda: make(mono=MonoSettings(low_ev=9000.0, high_ev=8000.0)), "has to be below high_ev"),
        (lambda: make().truth("Fe_K"), "no edge 'Fe_K'"),
        (lambda: make().load_pellet(1.2), "between 0 and 1"),
        (lambda: make().load_compound("NiO3"), "no compound 'NiO3'"),
        (lambda: Twin.true_spectrum("Xx", np.array([8333.0])), "no compound 'Xx'"),
        (lambda: make().faults.arm("no_such"), "no fault 'no_such'"),
        (lambda: make().faults.arm("disconnected"), "name the device"),
        (lambda: make().faults.arm("beam_trip", times=0), "at least once"),
    ],
)
def test_mistakes_are_told_in_one_sentence(call, words):
    with pytest.raises(DeviceError, match=words):
        call()
