"""One offset between the axes of scan and references: found, said, taken out."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from edge_fitting import EdgeFitter, EdgeFittingError, EdgeMaps, ReferenceSeries, fit_stack
from tests.test_edge_fitting_series import GRID

OFFSETS_EV = (0.0, 0.3, 0.5, 1.0, -0.5)


def spectrum(energy: np.ndarray, soc: np.ndarray, shift: float = 1.5) -> np.ndarray:
    """An edge that moves, with a pre-edge that does not and a white line that grows."""
    edge = 8343.0 + shift * np.asarray(soc)[..., None]
    line = np.exp(-(((energy - edge - 7.0) / 3.5) ** 2)) * (
        0.5 + 0.3 * np.asarray(soc)[..., None] * (shift < 2)
    )
    foot = 0.06 * np.exp(-(((energy - 8334.0) / 1.5) ** 2))
    return 0.5 + np.arctan((energy - edge) / 1.6) / np.pi + line + foot * (shift < 2)


def scan(shift: float = 1.5, noise: float = 0.02) -> tuple[np.ndarray, np.ndarray]:
    soc = np.random.default_rng(4).uniform(0.1, 0.9, (30, 30))
    clean = 0.4 + 0.8 * np.moveaxis(spectrum(GRID, soc, shift), -1, 0)
    return soc, (clean + noise * np.random.default_rng(5).standard_normal(clean.shape)).astype(np.float32)


def series(n: int = 9, offset_ev: float = 0.0, shift: float = 1.5) -> ReferenceSeries:
    """References on their own, finer axis, which reads lower than that of the scan by the offset."""
    energy = np.unique(np.r_[GRID, np.arange(8320, 8370, 0.5), 8240.0, 8700.0])
    soc = np.linspace(0, 1, n)
    return ReferenceSeries(energy - offset_ev, spectrum(energy, soc, shift), soc)


def streamed(stack: np.ndarray, references: ReferenceSeries, choice: str) -> EdgeMaps:
    fitter = EdgeFitter(stack.shape[1:], references=references, axis_offset=choice)
    for k in np.random.default_rng(1).permutation(GRID.size):
        fitter.push(GRID[k], stack[k])
    return fitter.maps()


@pytest.mark.parametrize("offset", OFFSETS_EV)
def test_an_offset_is_found_said_and_taken_out(offset: float) -> None:
    soc, stack = scan()
    references = series(offset_ev=offset)
    told = fit_stack(GRID, stack, references=references)
    assert told.axis_offset_ev == pytest.approx(offset, abs=0.04)
    assert told.axis_offset_sigma_ev is not None
    assert told.axis_offset_sigma_ev < 0.05
    assert bool(told.warnings) == (offset != 0.0)
    if offset:
        assert f"{told.axis_offset_ev:+.2f}" in told.warnings[0]
        assert told.soc_systematic is not None
        assert told.soc_systematic >= 0.9 * abs(np.nanmedian(told.soc - soc))
    for fitted in (
        fit_stack(GRID, stack, references=references, axis_offset="fit"),
        streamed(stack, references, "fit"),
        fit_stack(GRID, stack, references=references, axis_offset=offset),
    ):
        assert fitted.axis_offset_ev == pytest.approx(offset, abs=0.04)
        assert abs(np.nanmedian(fitted.soc - soc)) < 0.03
        assert not fitted.warnings
    live = streamed(stack, references, "report")
    assert live.axis_offset_ev == pytest.approx(told.axis_offset_ev, abs=1e-6)
    np.testing.assert_allclose(live.soc, told.soc, atol=1e-4)


@pytest.mark.parametrize("references", [series(2), series(9, shift=3.0)])
def test_where_state_and_offset_cannot_be_told_apart_that_is_said(references: ReferenceSeries) -> None:
    _, stack = scan(3.0 if len(references) > 2 else 1.5)
    maps = fit_stack(GRID, stack, references=references, axis_offset="fit")
    assert maps.axis_offset_ev is None
    assert "cannot be told" in maps.warnings[0]


def test_a_choice_that_cannot_be_followed_is_refused() -> None:
    _, stack = scan()
    with pytest.raises(EdgeFittingError, match="axis_offset must be"):
        fit_stack(GRID, stack, references=series(), axis_offset="guess")  # type: ignore[arg-type]
    with pytest.raises(EdgeFittingError, match="method 'series' with references"):
        fit_stack(GRID, stack, method="half_jump", axis_offset="fit")


@pytest.mark.parametrize("offset", OFFSETS_EV)
def test_on_real_spectra(shared_data: Path, offset: float) -> None:
    with h5py.File(shared_data / "stacks" / "semireal_ni_k_particle.h5") as file:
        energy, dark = file["energy_ev"][:], file["dark"][:]
        with np.errstate(invalid="ignore", divide="ignore"):
            stack = -np.log((file["frames"][:] - dark) / (file["flats"][:] - dark))
        mu, soc, truth = (file[name][:] for name in ("reference/mu", "reference/soc", "truth/soc"))
        strong = file["truth/mask"][:] & (file["truth/edge_jump"][:] > 0.2)
    references = ReferenceSeries(energy - offset, mu, soc)
    told = fit_stack(energy, stack, references=references)
    assert told.axis_offset_ev == pytest.approx(offset, abs=0.04)
    assert bool(told.warnings) == (offset != 0.0)
    maps = fit_stack(energy, stack, references=references, axis_offset="fit")
    assert abs(np.nanmedian((maps.soc - truth)[strong])) < 0.03
