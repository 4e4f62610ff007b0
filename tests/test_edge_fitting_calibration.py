"""Foil calibration against known inflections; anchor curves against Monte Carlo."""

import dataclasses
import gzip
import re
from contextlib import nullcontext, suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline, PchipInterpolator
from scipy.signal import savgol_filter

from edge_fitting import EDGES, AnchorCalibration, EdgeFittingError, EdgeMaps, calibrate_foil


def foil(energy: np.ndarray, inflection: float) -> np.ndarray:
    """A metal edge: first rise of 3.5 eV width with its inflection at a known place, then the main step."""
    first = 0.35 * (0.5 + np.arctan((energy - inflection) / 1.4) / np.pi)
    second = 0.65 / (1.0 + np.exp(-(energy - inflection - 12.0) / 1.8))
    return first + second


def true_inflection(inflection: float) -> float:
    """First zero of the second derivative of :func:`foil`, by brute force."""
    fine = np.arange(inflection - 3, inflection + 3, 1e-3)
    slope = np.gradient(foil(fine, inflection), fine)
    return float(fine[np.argmax(slope)])


@pytest.mark.parametrize("edge", ["Ni_K", "Co_K", "Mn_K"])
@pytest.mark.parametrize("step", [0.25, 0.5])
def test_finds_the_first_inflection(edge: str, step: float) -> None:
    nominal = EDGES[edge].foil_inflection_ev
    energy = np.arange(nominal - 80, nominal + 100, step)
    calibration = calibrate_foil(energy, 0.4 + 1.7 * foil(energy, nominal - 1.45), edge=edge)
    assert calibration.measured_ev == pytest.approx(true_inflection(nominal - 1.45), abs=0.02)
    assert calibration.offset_ev == pytest.approx(1.45, abs=0.02)
    assert calibration.edge == edge
    assert "first inflection" in calibration.definition
    assert calibration.apply([nominal - 1.45])[0] == pytest.approx(nominal, abs=0.02)


def test_sloping_background_and_order_do_not_matter() -> None:
    energy = np.arange(8283.0, 8400.0, 0.5)
    plain = calibrate_foil(energy, foil(energy, 8332.0), edge="Ni_K")
    shuffled = np.random.default_rng(0).permutation(energy.size)
    tilted = foil(energy, 8332.0) - 1.3 - 2e-4 * (energy - 8333.0)
    other = calibrate_foil(energy[shuffled], tilted[shuffled], edge="Ni_K")
    assert other.measured_ev == pytest.approx(plain.measured_ev, abs=1e-3)


@settings(max_examples=20, deadline=None)
@given(st.floats(-8.0, 8.0), st.floats(0.2, 5.0))
def test_follows_a_shift_of_the_axis(shift: float, scale: float) -> None:
    energy = np.arange(8283.0, 8400.0, 0.5)
    here = calibrate_foil(energy, foil(energy, 8333.0), edge="Ni_K")
    there = calibrate_foil(energy + shift, scale * foil(energy, 8333.0), edge="Ni_K")
    assert there.measured_ev - here.measured_ev == pytest.approx(shift, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("step", "noise"), [(0.5, 0.002), (0.5, 0.006), (1.0, 0.004)])
def test_sigma_is_the_scatter(step: float, noise: float) -> None:
    rng = np.random.default_rng(7)
    energy = np.arange(8283.0, 8400.0, step)
    found = []
    for _ in range(60):
        offset = rng.uniform(0, step)
        od = foil(energy + offset, 8333.0) + noise * rng.standard_normal(energy.size)
        found.append(calibrate_foil(energy + offset, od, edge="Ni_K"))
    scatter = np.std([c.measured_ev for c in found])
    # 60 trials know a scatter to 9 %; the window is chosen from the data, which costs a little more.
    assert np.median([c.noise_sigma_ev for c in found]) == pytest.approx(scatter, rel=0.35)
    assert abs(np.mean([c.measured_ev for c in found]) - true_inflection(8333.0)) < 0.1


def arctan(energy: np.ndarray, at: float, width: float) -> np.ndarray:
    return 0.5 + np.arctan((energy - at) / width) / np.pi


@pytest.mark.parametrize("width", [0.7, 1.4, 2.0])
@pytest.mark.parametrize("step", [0.25, 0.5, 1.0])
def test_an_ideal_arctangent_step_reads_right_wherever_the_points_lie(width: float, step: float) -> None:
    rng = np.random.default_rng(11)
    for place in np.linspace(0.0, 0.8, 4) * step:
        energy = np.arange(8273.0, 8423.0, step) + place
        mu = arctan(energy, 8333.3, width) + 0.0005 * rng.standard_normal(energy.size)
        # A step as wide as its points are apart may be refused, never read wrong.
        with pytest.raises(EdgeFittingError, match=r"metal|stands out") if width < step else nullcontext():
            found = calibrate_foil(energy, mu, edge="Ni_K")
            assert abs(found.measured_ev - 8333.3) < 0.03 + 0.1 * (step == 1.0)
            assert abs(found.measured_ev - 8333.3) < 3 * found.sigma_ev
            if width < step:
                raise EdgeFittingError("read right, which is better than what stands out")


@pytest.mark.slow
@pytest.mark.parametrize(("step", "shape"), [(0.5, 0.7), (0.5, 1.4), (0.5, None), (1.0, 1.4), (1.0, None)])
def test_sigma_holds_without_noise_to_speak_of(step: float, shape: float | None) -> None:
    rng = np.random.default_rng(4)
    pulls = []
    for _ in range(20):
        energy = np.arange(8283.0, 8400.0, step) + rng.uniform(0, step)
        mu = foil(energy, 8333.0) if shape is None else arctan(energy, 8333.0, shape)
        found = calibrate_foil(energy, mu + 0.0005 * rng.standard_normal(energy.size), edge="Ni_K")
        truth = true_inflection(8333.0) if shape is None else 8333.0
        pulls.append(abs(found.measured_ev - truth) / found.sigma_ev)
    # 68 % within one sigma of a normal distribution; 20 trials know that to 10 %.
    assert np.mean(np.array(pulls) < 1) > 0.55
    assert np.mean(np.array(pulls) < 2) >= 0.9


def test_says_what_is_wrong() -> None:
    energy = np.arange(8283.0, 8400.0, 0.5)
    od = foil(energy, 8333.0)
    rng = np.random.default_rng(0)
    with pytest.raises(EdgeFittingError, match="keV"):
        calibrate_foil(energy / 1000, od, edge="Ni_K")
    with pytest.raises(EdgeFittingError, match="has 0 energies within"):
        calibrate_foil(energy, od, edge="Mn_K")
    with pytest.raises(EdgeFittingError, match="stands out of the noise"):
        calibrate_foil(energy, rng.standard_normal(energy.size), edge="Ni_K")
    with pytest.raises(EdgeFittingError, match="stands out of the noise"):
        calibrate_foil(energy, -od, edge="Ni_K")
    with pytest.raises(EdgeFittingError, match="stands out of the noise"):
        calibrate_foil(energy, np.ones(energy.size), edge="Ni_K")
    with pytest.raises(EdgeFittingError, match="shape"):
        calibrate_foil(energy, od[:-1], edge="Ni_K")
    with pytest.raises(EdgeFittingError, match="not finite"):
        calibrate_foil(energy, np.where(energy == 8333.0, np.nan, od), edge="Ni_K")
    with pytest.raises(EdgeFittingError, match="at least"):
        calibrate_foil(energy[::40], od[::40], edge="Ni_K")


GRIDS = {
    "coarse, fine from 24 eV below": np.r_[8233:8309:10.0, 8309:8354:0.25, 8354:8480:10.0],
    "coarse, fine from 10 eV below": np.r_[8233:8323:5.0, 8323:8368:0.5, 8368:8480:5.0],
    "coarse, fine from 6 eV below": np.r_[8233:8327:5.0, 8327:8368:0.25, 8368:8480:10.0],
    "coarse, fine from the edge on": np.r_[8233:8333:10.0, 8333:8380:0.25, 8380:8480:10.0],
    "20 points": np.r_[8273:8325:17.0, 8326:8340:1.0, 8343:8393:20.0],
    "1 eV": np.arange(8273.3, 8413, 1.0),
    "2 eV": np.arange(8273.3, 8413, 2.0),
    "5 eV": np.arange(8273.3, 8413, 5.0),
}


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(
    "fault", ["", "up", "down", "two up", "step before", "kink", "descending", "twice", "slope"]
)
def test_reads_right_or_refuses_whatever_the_grid(grid: str, fault: str) -> None:
    energy = GRIDS[grid]
    mu = foil(energy, 8333.0) + 0.02 * np.sin((energy - 8350) / 9.0) * (energy > 8350)
    mu += 0.001 * np.random.default_rng(2).standard_normal(energy.size)
    at = int(np.argmin(np.abs(energy - 8326.3)))
    mu[at] += {"up": 0.5, "two up": 0.4, "down": -0.5}.get(fault, 0.0)
    mu[at + 1] += 0.4 * (fault == "two up")
    mu += 0.2 * (energy > 8316.1) * (fault == "step before") + 0.008 * (energy - 8328).clip(0) * (
        fault == "kink"
    )
    mu -= 0.002 * (energy - 8333) * (fault == "slope")
    if fault == "descending":
        energy, mu = energy[::-1], mu[::-1]
    if fault == "twice":
        energy, mu = np.repeat(energy, 2), np.repeat(mu, 2)
    may_refuse = fault in ("step before", "down", "two up", "up") or grid in (
        "2 eV", "5 eV", "coarse, fine from the edge on", "coarse, fine from 6 eV below", "20 points",
    )  # fmt: skip
    reasons = "far apart|stands out|metal|take at least|points that do not agree"
    with pytest.raises(EdgeFittingError, match=reasons) if may_refuse else nullcontext():
        found = calibrate_foil(energy, mu, edge="Ni_K")
        assert abs(found.measured_ev - true_inflection(8333.0)) < 3 * found.sigma_ev + 0.1
        if may_refuse:
            raise EdgeFittingError("read right, which is better than what stands out")


def xdi(path: Path) -> tuple[np.ndarray, np.ndarray]:
    data = np.loadtxt(path)
    return data[:, 0], np.log(data[:, 1] / data[:, 2]) if data.shape[1] > 2 else data[:, 1]


def athena(path: Path) -> tuple[np.ndarray, np.ndarray]:
    text = gzip.decompress(path.read_bytes()).decode(errors="replace")

    def column(name: str) -> np.ndarray:
        found = re.search(rf"@{name} = \((.*?)\);", text, re.DOTALL)
        assert found is not None
        return np.array([float(v) for v in found.group(1).replace("'", "").split(",")])

    return column("x"), column("y")


@pytest.mark.parametrize(
    ("file", "edge", "inflection"),
    [
        ("Ni/xaslib_Ni_metal_rt_01.xdi", "Ni_K", 8331.55),
        ("Ni/xaslib_Ni_metal_rt_02.xdi", "Ni_K", 8331.55),
        ("Co/xaslib_co_metal_rt.xdi", "Co_K", 7708.95),
        ("Mn/ceric_Mn_foil_111.xdi", "Mn_K", 6538.3),
    ],
)
def test_real_foils(shared_data: Path, file: str, edge: str, inflection: float) -> None:
    energy, mu = xdi(shared_data / "spectra" / file)
    calibration = calibrate_foil(energy, mu, edge=edge)
    # Steps of 0.5 eV: another smoothing moves the place by a tenth or two, and sigma says so.
    assert calibration.measured_ev == pytest.approx(inflection, abs=0.12)
    assert calibration.noise_sigma_ev < 0.1 < calibration.sigma_ev < 0.3
    # Every second point of the scan.
    sparse = calibrate_foil(energy[::2], mu[::2], edge=edge)
    assert 0 <= sparse.measured_ev - calibration.measured_ev < 0.4


def test_sigma_holds_what_grids_cost_on_measured_foils(shared_data: Path) -> None:
    """Truth: steepest point of a cubic spline through the measured foil, sampled again on usual grids."""
    rng = np.random.default_rng(6)
    pulls = []
    for name, edge in (
        ("Ni/ceric_NiO_111", "Ni_K"), ("Ni/ceric_NiCo2O4_Ni_80K_111", "Ni_K"), ("Ni/xaslib_Ni_metal_rt_02", "Ni_K"),
        ("Co/ceric_CoO_111_80K", "Co_K"), ("Co/ceric_LiCoO2_80K_111", "Co_K"), ("Co/xaslib_co_metal_rt", "Co_K"),
        ("Mn/ceric_MnO2", "Mn_K"), ("Mn/ceric_Mn_foil_111", "Mn_K"),
    ):  # fmt: skip
        columns = np.loadtxt(shared_data / "spectra" / f"{name}.xdi")
        energy, nominal = columns[:, 0], EDGES[edge].foil_inflection_ev
        # The foil is the third channel of the oxides; of the foils it is the first two.
        mu = (
            columns[:, 2]
            if "ceric" in name and "foil" not in name
            else xdi(shared_data / "spectra" / f"{name}.xdi")[1]
        )
        _, mu = scaled(energy, mu, nominal)
        near = np.abs(energy - nominal) < 110
        curve = CubicSpline(energy[near], savgol_filter(mu[near], 5, 3))
        rise = np.arange(nominal - 3.0, nominal + 2.0, 0.005)
        truth = rise[np.argmax(curve(rise, 1))]
        for step in (0.2, 0.5, 1.0):
            for noise in (0.0005, 0.003):
                grid = np.arange(nominal - 90.0 + rng.uniform(0, step), nominal + 90.0, step)
                noisy = curve(grid) + noise * rng.standard_normal(grid.size)
                with suppress(EdgeFittingError):
                    found = calibrate_foil(grid, noisy, edge=edge)
                    pulls.append((found.measured_ev - truth) / found.sigma_ev)
    assert len(pulls) >= 44
    # 48 draws of 8 shapes know a pull of 1 to 20 %.
    assert 0.7 < np.sqrt(np.mean(np.square(pulls))) < 1.3
    assert np.abs(pulls).max() < 3.0


def scaled(energy: np.ndarray, mu: np.ndarray, nominal: float) -> tuple[np.ndarray, np.ndarray]:
    """Foil from 0 below the edge to 1 above it."""
    base = np.median(mu[energy < nominal - 20])
    return energy, (mu - base) / (np.median(mu[(energy > nominal + 15) & (energy < nominal + 60)]) - base)


@pytest.mark.parametrize("element", ["Ni", "Co", "Mn"])
def test_real_foils_of_another_beamline(shared_data: Path, element: str) -> None:
    energy, mu = athena(shared_data / "spectra" / element / f"xasref_{element}foil.prj")
    calibration = calibrate_foil(energy, mu, edge=f"{element}_K")
    near = np.abs(energy - calibration.nominal_ev) < 8
    steepest = energy[near][np.argmax(np.gradient(mu, energy)[near])]
    assert calibration.measured_ev == pytest.approx(steepest, abs=0.5)


# Half-jump energies and valences of manganese oxides.
MN = ([6544.9, 6549.4, 6552.3], [2.0, 3.0, 4.0])


def test_a_line_through_two_anchors() -> None:
    curve = AnchorCalibration([8342.4, 8345.6], [2.0, 3.0], kind="linear")
    value, sigma = curve([8344.0, 8342.4, np.nan], 0.16)
    assert value[:2] == pytest.approx([2.5, 2.0])
    assert sigma[:2] == pytest.approx([0.05, 0.05])
    assert np.isnan(value[2])
    assert np.isnan(sigma[2])


def test_a_line_through_many_is_least_squares() -> None:
    rng = np.random.default_rng(0)
    x, truth = np.linspace(0, 10, 12), 0.3 * np.linspace(0, 10, 12) + 1
    y = truth + 0.05 * rng.standard_normal(12)
    coefficients, covariance = np.polyfit(x, y, 1, cov=True)
    at = np.array([-1.0, 4.0, 11.0])
    value, sigma = AnchorCalibration(x, y, kind="linear")(at)
    assert value == pytest.approx(np.polyval(coefficients, at))
    design = np.stack([at, np.ones(3)])
    assert sigma == pytest.approx(np.sqrt(np.einsum("in,ij,jn->n", design, covariance, design)), rel=1e-6)


def test_a_monotone_curve_passes_every_anchor() -> None:
    curve = AnchorCalibration(*MN)
    assert curve(MN[0])[0] == pytest.approx(MN[1])
    fine = np.linspace(6540, 6556, 400)
    assert (np.diff(curve(fine)[0]) > 0).all()
    # Not the same rule as pchip, but it must stay near it.
    inside = np.linspace(*MN[0][::2], 50)
    assert curve(inside)[0] == pytest.approx(PchipInterpolator(*MN)(inside), abs=0.05)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(0.05, 5.0), min_size=1, max_size=6),
    st.lists(st.floats(0.05, 5.0), min_size=6, max_size=6),
    st.booleans(),
)
def test_monotone_anchors_give_a_monotone_curve(dx: list[float], dy: list[float], down: bool) -> None:
    x = 8340 + np.cumsum([0.0, *dx])
    y = np.cumsum([0.0, *dy[: len(dx)]]) * (-1 if down else 1)
    value, _ = AnchorCalibration(x, y)(np.linspace(x[0] - 1, x[-1] + 1, 300))
    steps = np.diff(value) * (-1 if down else 1)
    assert (steps >= -1e-9).all()


@pytest.mark.parametrize("kind", ["linear", "monotone"])
def test_uncertainty_of_the_anchors_by_monte_carlo(kind: str) -> None:
    x, y = np.array([6544.9, 6547.5, 6549.6, 6552.3]), np.array([2.0, 2.6, 3.2, 4.0])
    at = np.array([6545.5, 6548.0, 6551.0, 6553.0])
    calibrated = AnchorCalibration(x, y, kind=kind, measured_sigma=0.08, known_sigma=0.02).convert(at, 0.05)
    rng = np.random.default_rng(5)
    drawn = np.array(
        [
            AnchorCalibration(
                x + 0.08 * rng.standard_normal(4), y + 0.02 * rng.standard_normal(4), kind=kind
            )(at)[0]
            for _ in range(3000)
        ]
    )
    assert calibrated.anchor_sigma == pytest.approx(drawn.std(axis=0), rel=0.1)
    pixels = AnchorCalibration(x, y, kind=kind)(at + 0.05 * rng.standard_normal((3000, 4)))[0]
    assert calibrated.sigma == pytest.approx(pixels.std(axis=0), rel=0.1)
    assert calibrated.total_sigma == pytest.approx(np.hypot(calibrated.sigma, calibrated.anchor_sigma))


def test_outside_of_the_anchors_is_flagged() -> None:
    calibrated = AnchorCalibration(*MN).convert([6544.0, 6548.0, 6553.0, 6560.0, 6500.0, np.nan])
    assert calibrated.outside.tolist() == [True, False, True, True, True, False]
    assert np.isfinite(calibrated.value).tolist() == [True, True, True, False, False, False]
    assert calibrated.value[0] < 2.0
    assert calibrated.value[2] > 4.0


def maps_of(energy: np.ndarray, sigma: float) -> EdgeMaps:
    fields = {
        f.name: np.zeros(energy.shape, np.float32)
        for f in dataclasses.fields(EdgeMaps)
        if f.name not in ("edge", "method", "definition", "n_frames", "status")
    }
    fields["edge_energy_ev"] = energy.astype(np.float32)
    fields["edge_energy_sigma_ev"] = np.full(energy.shape, sigma, np.float32)
    return EdgeMaps(
        **fields, status=np.zeros(energy.shape, np.uint8), edge="Mn_K", method="half_jump",
        definition="half_jump", n_frames=3,
    )  # fmt: skip


def test_maps_chain_to_valence_and_lithium_content() -> None:
    energy = np.array([[6549.4, 6551.0, np.nan], [6548.0, 6552.3, 6560.0]])
    valence = AnchorCalibration(*MN, measured_sigma=0.1).convert(maps_of(energy, 0.2))
    assert valence.value.shape == (2, 3)
    assert valence.value[0, 0] == pytest.approx(3.0, abs=1e-4)
    lithium = AnchorCalibration([3.0, 4.0], [1.0, 0.0], kind="linear")
    content = lithium.convert(valence.value, valence.total_sigma)
    assert content.value[0, 0] == pytest.approx(1.0, abs=1e-4)
    assert content.sigma[0, 1] == pytest.approx(valence.total_sigma[0, 1])
    assert content.outside.tolist() == [[bool(valence.value[0, 0] < 3), False, False], [True, False, False]]
    assert np.isnan(content.value[1, 2])


@pytest.mark.parametrize(
    ("measured", "known", "options", "message"),
    [
        ([1.0], [1.0], {}, "two anchors"),
        ([1.0, 2.0], [1.0], {}, "as many"),
        ([1.0, np.inf], [1.0, 2.0], {}, "finite"),
        ([1.0, 1.0], [1.0, 2.0], {}, "same measured"),
        ([1.0, 2.0, 3.0], [1.0, 3.0, 2.0], {}, "monotone"),
        ([1.0, 2.0], [1.0, 3.0], {"kind": "cubic"}, "kind"),
        ([1.0, 2.0], [1.0, 3.0], {"measured_sigma": [0.1, -0.1]}, "measured_sigma"),
        ([1.0, 2.0], [1.0, 3.0], {"known_sigma": [0.1, 0.1, 0.1]}, "known_sigma"),
    ],
)
def test_bad_anchors_are_named(
    measured: list[float], known: list[float], options: dict[str, object], message: str
) -> None:
    with pytest.raises(EdgeFittingError, match=message):
        AnchorCalibration(measured, known, **options)  # type: ignore[arg-type]


def test_sigma_of_another_shape_is_named() -> None:
    with pytest.raises(EdgeFittingError, match="sigma has shape"):
        AnchorCalibration(*MN).convert([6548.0, 6549.0], [0.1, 0.2, 0.3])
