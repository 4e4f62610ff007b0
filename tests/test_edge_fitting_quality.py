"""Frames and values that do not belong, chi2 that shows misfit, sigma that holds for thick and thin pixels."""

import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from edge_fitting import EdgeFitter, EdgeMaps, FitStatus, ReferenceSeries, fit_stack
from tests.test_edge_fitting_axis_offset import series, spectrum
from tests.test_edge_fitting_series import GRID

SIZE = 72
BAD = int(np.argmin(np.abs(GRID - 8345.0)))


def measured(seed: int = 0, energy: np.ndarray = GRID, counts: float = 2500.0) -> tuple[np.ndarray, ...]:
    """Truth of the state and of the jump, and optical depth from counts, of a wedge with some scatter."""
    random = np.random.default_rng(seed)
    soc = random.uniform(0.15, 0.85, (SIZE, SIZE))
    jump = np.linspace(0.2, 1.0, SIZE)[:, None] * random.uniform(0.9, 1.1, (SIZE, SIZE))
    clean = 0.3 * jump + jump * np.moveaxis(spectrum(energy, soc), -1, 0)
    light = random.poisson(counts * np.exp(-clean)).clip(1)
    return soc, jump, -np.log(light / counts).astype(np.float32)


def judged(soc: np.ndarray, maps: EdgeMaps) -> tuple[float, float]:
    found = np.isfinite(maps.soc)
    error = (maps.soc - soc)[found]
    return float(error.mean()), float(np.mean(np.abs(error / maps.soc_sigma[found]) < 1.0))


def shifted_od(stack: np.ndarray) -> None:
    stack[BAD] += np.float32(0.2)


def wrong_energy(stack: np.ndarray) -> None:
    stack[BAD] = measured(9, GRID - 3.0)[2][BAD]


def without_sample(stack: np.ndarray) -> None:
    stack[BAD] = np.random.default_rng(3).normal(0, 0.02, (SIZE, SIZE))


def moved_sample(stack: np.ndarray) -> None:
    stack[BAD] = np.roll(stack[BAD], 12, axis=0)


def too_bright(stack: np.ndarray) -> None:
    stack[BAD] -= np.float32(np.log(3.0))


def stripes(stack: np.ndarray) -> None:
    stack[BAD] += np.float32(0.1) * (np.arange(SIZE) % 2)


def other_flat(stack: np.ndarray) -> None:
    stack[BAD] += np.float32(0.15) * np.sin(np.arange(SIZE) / 11.0)


@pytest.mark.parametrize(
    "spoil", [shifted_od, wrong_energy, without_sample, moved_sample, too_bright, stripes, other_flat]
)
def test_a_frame_that_does_not_belong_is_named_and_left_out(spoil) -> None:
    soc, _, stack = measured()
    spoil(stack)
    maps = fit_stack(GRID, stack, references=series())
    assert maps.left_out_ev == (GRID[BAD],)
    assert maps.n_frames == GRID.size - 1
    assert [f"{GRID[BAD]:.2f} eV" in said for said in maps.warnings] == [True]
    bias, coverage = judged(soc, maps)
    assert abs(bias) <= 0.01
    assert coverage == pytest.approx(0.683, abs=0.05)


def test_frames_given_one_by_one_are_judged_alike_and_one_taken_out_is_forgiven() -> None:
    _, _, stack = measured()
    shifted_od(stack)
    fitter = EdgeFitter((SIZE, SIZE), references=series(), axis_offset=0.0)
    for energy, frame in zip(GRID, stack, strict=True):
        fitter.push(energy, frame)
    doubtful = fitter.maps()
    assert len(doubtful.warnings) == 1
    assert f"{GRID[BAD]:.2f} eV" in doubtful.warnings[0]
    fitter.retract(GRID[BAD], stack[BAD])
    mended = fitter.maps()
    assert mended.warnings == ()
    assert mended.chi2 == pytest.approx(1.0, abs=0.05)
    assert mended.frame_chi2 is not None
    assert mended.frame_chi2.size == GRID.size - 1


@pytest.mark.parametrize("seed", range(8))
def test_nothing_is_left_out_of_clean_data_or_said_of_it(seed: int) -> None:
    soc, _, stack = measured(seed, counts=(400.0, 2500.0, 20000.0)[seed % 3])
    maps = fit_stack(GRID, stack, references=series())
    assert maps.warnings == ()
    assert maps.left_out_ev == ()
    assert maps.n_masked_values == 0
    assert maps.chi2 == pytest.approx(1.0, abs=0.06)
    assert judged(soc, maps)[1] == pytest.approx(0.683, abs=0.03)


@pytest.mark.parametrize("offset", [0.5, -1.0, 1.5])
def test_wrong_references_leave_no_frame_out_and_raise_chi2(offset: float) -> None:
    _, _, stack = measured(counts=20000.0)
    right = fit_stack(GRID, stack, references=series(), axis_offset=0.0)
    wrong = fit_stack(GRID, stack, references=series(offset_ev=offset), axis_offset=0.0)
    assert wrong.left_out_ev == ()
    assert wrong.chi2 is not None
    assert right.chi2 is not None
    assert wrong.chi2 > 1.2 * right.chi2
    assert wrong.reduced_chi2 is not None
    assert np.nanmedian(wrong.reduced_chi2) > 1.2


@pytest.mark.parametrize("step_ev", [2.0, 4.0, 5.0, 8.0, 19.0])
def test_wrong_references_leave_no_frame_out_where_energies_are_far_apart(step_ev: float) -> None:
    for phase in (0.0, 0.66):
        grid = np.arange(8250.0 + phase * step_ev, 8501.0, step_ev)
        _, _, stack = measured(1, grid, 20000.0)
        for offset in (0.5, -1.0, -2.0, 3.0):
            wrong = fit_stack(grid, stack, references=series(offset_ev=offset), axis_offset=0.0)
            assert wrong.left_out_ev == (), (phase, offset)


def test_zingers_become_missing_values() -> None:
    soc, _, stack = measured()
    random = np.random.default_rng(7)
    hit = random.random(stack.shape) < 1e-3
    stack[hit] -= random.uniform(0.5, 3.0, int(hit.sum())).astype(np.float32)
    maps = fit_stack(GRID, stack, references=series())
    assert maps.left_out_ev == ()
    assert 0.9 * hit.sum() <= maps.n_masked_values <= 1.05 * hit.sum()
    bias, coverage = judged(soc, maps)
    assert abs(bias) <= 0.01
    assert coverage == pytest.approx(0.683, abs=0.03)
    spoilt = hit.any(axis=0)
    error = maps.soc - soc
    assert np.nanstd(error[spoilt]) < 1.15 * np.nanstd(error[~spoilt])


def test_a_state_that_moves_during_the_scan_is_noticed() -> None:
    energy = np.concatenate([GRID, GRID[20:50:6]])
    soc, jump, stack = measured(energy=energy)
    assert fit_stack(energy, stack, references=series()).warnings == ()
    later = 0.3 * jump + jump * np.moveaxis(spectrum(energy[GRID.size :], soc + 0.25), -1, 0)
    light = np.random.default_rng(2).poisson(2500 * np.exp(-later))
    stack[GRID.size :] = -np.log(light / 2500)
    maps = fit_stack(energy, stack, references=series())
    assert ["changed during the scan" in said for said in maps.warnings] == [True]
    assert maps.left_out_ev == ()


def test_sigma_holds_for_thick_and_thin_pixels_without_weights() -> None:
    soc, jump, stack = measured(counts=8000.0)
    maps = fit_stack(GRID, stack, references=series())
    for low, high in ((0.3, 0.6), (0.6, 0.9), (0.9, 1.1)):
        inside = (jump > low) & (jump < high) & np.isfinite(maps.soc)
        pull = ((maps.soc - soc) / maps.soc_sigma)[inside]
        assert pull.std() == pytest.approx(1.0, abs=0.1)


def test_pixels_beyond_the_limit_of_thickness_are_told() -> None:
    _, _, stack = measured(counts=50000.0)
    thick = fit_stack(GRID, 3.0 * stack, references=series())
    (said,) = (said for said in thick.warnings if "optical depth above 3" in said)
    assert said.startswith("100 % of the pixels") or re.match(r"\d{1,2}(\.\d+)? %", said)


@pytest.mark.parametrize("share", [0.0, 0.005, 0.02, 0.05])
def test_light_beside_the_sample_is_estimated_from_thick_pixels(share: float) -> None:
    random = np.random.default_rng(1)
    soc = random.uniform(0.15, 0.85, (SIZE, SIZE))
    jump = 3.0 * np.linspace(0.2, 1.0, SIZE)[:, None] * random.uniform(0.9, 1.1, (SIZE, SIZE))
    through = np.exp(-0.3 * jump - jump * np.moveaxis(spectrum(GRID, soc), -1, 0))
    light = random.poisson(20000 * ((1.0 - share) * through + share)).clip(1)
    maps = fit_stack(GRID, -np.log(light / 20000).astype(np.float32), references=series())
    assert maps.stray_light is not None
    assert maps.stray_light_sigma is not None
    assert abs(maps.stray_light - share) < 3.0 * maps.stray_light_sigma + 2e-4
    assert maps.stray_light_sigma < 0.002
    assert any("beside the sample" in said for said in maps.warnings) == (share > 0)
    # It is taken out: 2 % of it would push pixels above a jump of 1.8 by -0.24, and the axis by +0.3 eV.
    assert maps.stray_light_taken_out == (share > 0)
    thick = (jump > 1.8) & np.isfinite(maps.soc)
    error = (maps.soc - soc)[thick]
    assert thick.sum() > 0.95 * (jump > 1.8).sum()
    assert abs(error.mean()) < 0.01
    assert np.std(error / maps.soc_sigma[thick]) < 1.1
    assert abs(maps.axis_offset_ev) < 0.05


def test_pixels_that_light_beside_the_sample_leaves_open_have_a_status_and_no_value() -> None:
    random = np.random.default_rng(1)
    soc = random.uniform(0.15, 0.85, (SIZE, SIZE))
    jump = 6.0 * np.linspace(0.1, 1.0, SIZE)[:, None] * random.uniform(0.9, 1.1, (SIZE, SIZE))
    through = np.exp(-0.3 * jump - jump * np.moveaxis(spectrum(GRID, soc), -1, 0))
    light = random.poisson(20000 * (0.98 * through + 0.02)).clip(1)
    maps = fit_stack(GRID, -np.log(light / 20000).astype(np.float32), references=series())
    lost = maps.status == FitStatus.STRAY_LIGHT
    assert (jump[lost] > 1.5).all()
    assert lost[jump > 5.0].mean() > 0.95
    assert np.isnan(maps.soc[lost]).all()
    assert maps.status[jump < 1.5].max() == FitStatus.OK
    assert any("STRAY_LIGHT" in said or "have no value" in said for said in maps.warnings)
    assert abs(np.nanmean(maps.soc - soc)) < 0.01


def test_thin_pixels_say_nothing_of_light_beside_the_sample() -> None:
    assert fit_stack(GRID, measured()[2], references=series()).stray_light is None


@pytest.mark.slow
@pytest.mark.parametrize("spoilt", [False, True])
def test_on_a_real_particle(shared_data: Path, spoilt: bool) -> None:
    with h5py.File(shared_data / "stacks" / "semireal_ni_k_particle.h5") as file:
        energy, dark = file["energy_ev"][:], file["dark"][:]
        stack = -np.log((file["frames"][:] - dark) / (file["flats"][:] - dark)).astype(np.float32)
        references = ReferenceSeries(energy, file["reference/mu"][:], file["reference/soc"][:])
        soc, jump, mask = file["truth/soc"][:], file["truth/edge_jump"][:], file["truth/mask"][:]
    bad = int(np.argmin(np.abs(energy - 8344.0)))
    if spoilt:
        stack[bad] += np.float32(0.2)
    maps = fit_stack(energy, stack, references=references)
    assert maps.left_out_ev == ((energy[bad],) if spoilt else ())
    assert len(maps.warnings) == len(maps.left_out_ev)
    for low, high in ((0.1, 0.2), (0.2, 0.4), (0.4, 0.7), (0.7, 9.0)):
        inside = mask & (jump > low) & (jump <= high) & np.isfinite(maps.soc)
        error = (maps.soc - soc)[inside]
        assert abs(error.mean()) <= 0.01
        assert np.mean(np.abs(error / maps.soc_sigma[inside]) < 1) == pytest.approx(0.683, abs=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_said_of_clean_frames_at_any_moment_of_the_scan(seed: int) -> None:
    _, _, stack = measured(seed)
    for order in (np.arange(GRID.size), np.random.default_rng(seed).permutation(GRID.size)):
        fitter = EdgeFitter((SIZE, SIZE), references=series(), axis_offset=0.0)
        for count, k in enumerate(order):
            fitter.push(GRID[k], stack[k])
            if count % 3 == 0:
                assert fitter.maps().warnings == ()
                assert fitter.doubts == ()


def given_one_by_one(energy: np.ndarray, stack: np.ndarray, references: ReferenceSeries) -> EdgeMaps:
    fitter = EdgeFitter((SIZE, SIZE), references=references)
    for k in range(energy.size):
        fitter.push(energy[k], stack[k])
    return fitter.maps(final=True)


def out_of_the_field(energy: np.ndarray, stack: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return energy, np.random.default_rng(0).normal(0, 0.02, stack.shape).astype(np.float32)


def all_masked(energy: np.ndarray, stack: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return energy, np.full_like(stack, np.nan)


def below_the_edge(energy: np.ndarray, stack: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return energy[energy < 8325], stack[energy < 8325]


def as_it_is(energy: np.ndarray, stack: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return energy, stack


@pytest.mark.parametrize("way", [fit_stack, given_one_by_one])
@pytest.mark.parametrize(
    ("spoil", "offset_ev", "said"),
    [
        (out_of_the_field, 0.0, "no pixel shows an edge: the sample is out of the field in every frame"),
        (all_masked, 0.0, "no pixel has a finite value in any frame: masks"),
        (below_the_edge, 0.0, "do not determine the fit of any pixel: measure on both sides"),
        (as_it_is, 8.0, "no spectrum of the references has its edge there; look at the energy axes"),
    ],
)
def test_a_map_without_values_says_why_in_one_sentence(way, spoil, offset_ev: float, said: str) -> None:
    energy, stack = spoil(GRID, measured()[2])
    references = series(offset_ev=offset_ev)
    maps = way(energy, stack, references=references) if way is fit_stack else way(energy, stack, references)
    assert sum(said in text for text in maps.warnings) == 1
