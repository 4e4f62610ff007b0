"""Half-jump, inflection, white line and arctan-Gauss: values against analytic spectra, sigmas against Monte Carlo."""

import numpy as np
import pytest

from edge_fitting import EDGES, FitStatus, ReferenceSeries, fit_stack, mask_maps, reliable_pixels

ENERGY = np.concatenate(
    [np.arange(8200.0, 8320.0, 10.0), np.arange(8326.0, 8362.0, 1.0), np.arange(8370.0, 8580.0, 10.0)]
)


def spectrum(edge, energy=ENERGY):
    """Step and white line, smooth enough that a 1 eV grid resolves them."""
    edge = np.asarray(edge)[..., None]
    step = 0.5 * (1.0 + np.tanh((energy - edge) / 2.5))
    return step + 0.5 * np.exp(-(((energy - edge - 9.0) / 3.5) ** 2))


def background(energy=ENERGY):
    return (0.5 - 0.08 * (energy - 8340.0) / 100.0)[:, None, None]


def stack(edge, *, jump=0.6, noise=0.0, seed=0):
    clean = background() + jump * np.moveaxis(spectrum(edge), -1, 0)
    return clean + noise * np.random.default_rng(seed).standard_normal(clean.shape)


def truth(method, edge):
    """What each definition gives on the analytic spectrum, found on a fine grid."""
    fine = np.arange(8330.0, 8365.0, 0.001)
    curve = spectrum(edge, fine)
    if method == "half_jump":
        return fine[np.argmax(curve >= 0.5)]
    if method == "inflection":
        return fine[np.argmax(np.gradient(curve))]
    return fine[np.argmax(np.where(fine > edge + 4, curve, 0))]


@pytest.mark.parametrize(
    ("method", "tolerance"), [("half_jump", 0.03), ("inflection", 0.15), ("white_line", 0.15)]
)
def test_values_follow_their_definition(method, tolerance):
    edges = np.linspace(8341.0, 8345.0, 41)
    maps = fit_stack(ENERGY, stack(edges[None]), method=method)
    assert (maps.status == FitStatus.OK).all()
    found = maps.edge_energy_ev[0]
    expected = np.array([truth(method, edge) for edge in edges])
    # A grid of 1 eV and a local parabola shift all spectra alike: the offset is bounded, the shifts are exact.
    assert np.abs(found - expected).max() < tolerance
    assert np.std(found - expected) < 0.05
    np.testing.assert_allclose(maps.edge_jump, 0.6, rtol=0.02)
    assert maps.definition.startswith(method)


@pytest.mark.parametrize("method", ["half_jump", "inflection", "white_line"])
def test_sigma_agrees_with_monte_carlo(method):
    maps = fit_stack(ENERGY, stack(np.full((130, 130), 8343.3), noise=0.6 * 0.01), method=method)
    assert maps.has_value.mean() > 0.999
    scatter = np.nanstd(maps.edge_energy_ev)
    assert np.sqrt(np.nanmean(maps.edge_energy_sigma_ev.astype(float) ** 2)) == pytest.approx(
        scatter, rel=0.1
    )


@pytest.mark.parametrize("pre_edge", [(8250, 8300), (8290, 8300, 8310), (8270, 8290, 8310)])
def test_few_pre_edge_energies_share_their_slope(pre_edge):
    energy = np.concatenate([pre_edge, np.arange(8326.0, 8362.0, 1.0), np.arange(8400.0, 8600.0, 40.0)])
    edges = np.full((90, 90), 8343.3)
    thickness = np.linspace(0.5, 1.0, 90)[None, :]
    # Absorption below the edge falls as the inverse cube of the energy, in proportion to the thickness.
    below = 0.8 * (8340.0 / energy[:, None, None]) ** 3 * thickness
    clean = below + 0.6 * np.moveaxis(spectrum(edges, energy), -1, 0)
    noisy = clean + 0.012 * np.random.default_rng(4).standard_normal(clean.shape)
    maps = fit_stack(energy, noisy, method="half_jump")
    assert maps.has_value.mean() > 0.99
    assert np.nanmedian(maps.edge_energy_ev) == pytest.approx(truth("half_jump", 8343.3), abs=0.1)
    scatter = np.nanstd(maps.edge_energy_ev)
    assert np.sqrt(np.nanmean(maps.edge_energy_sigma_ev.astype(float) ** 2)) == pytest.approx(
        scatter, rel=0.1
    )
    # Three pixels have no slope of their own to share: that of photoabsorption is taken.
    alone = fit_stack(energy, clean[:, :1, :3], method="half_jump")
    assert alone.edge_energy_ev == pytest.approx(maps.edge_energy_ev[:1, :3], abs=0.5)


@pytest.mark.parametrize("method", ["half_jump", "white_line"])
def test_sigma_holds_with_weights_and_on_a_line(method):
    random = np.random.default_rng(2)
    sigma = np.where(np.arange(ENERGY.size) % 3, 0.004, 0.012)
    frames = stack(np.full((120, 120), 8343.0)) + sigma[:, None, None] * random.standard_normal(
        (ENERGY.size, 120, 120)
    )
    maps = fit_stack(ENERGY, frames, method=method, weights=(0.004 / sigma) ** 2)
    scatter = np.nanstd(maps.edge_energy_ev)
    assert np.sqrt(np.nanmean(maps.edge_energy_sigma_ev.astype(float) ** 2)) == pytest.approx(
        scatter, rel=0.1
    )
    assert np.median(maps.noise) == pytest.approx(0.004, rel=0.1)


def test_half_jump_reference_in_numpy():
    """Twin of the kernel, pixel by pixel: lines by polyfit, crossing by the same split of the window."""
    frames = stack(np.linspace(8341.0, 8346.0, 30)[None], noise=0.01, seed=3)
    maps = fit_stack(ENERGY, frames, method="half_jump")
    edge = EDGES["Ni_K"]
    pre = (ENERGY >= edge.pre_edge_ev[0]) & (ENERGY <= edge.pre_edge_ev[1])
    post = (ENERGY >= edge.post_edge_ev[0]) & (ENERGY <= edge.post_edge_ev[1])
    near = np.flatnonzero((ENERGY >= edge.half_jump_window_ev[0]) & (ENERGY <= edge.half_jump_window_ev[1]))
    inside = np.arange(near[0] - 1, near[-1] + 2)
    centre = sum(edge.half_jump_window_ev) / 2
    for pixel in range(30):
        y = frames[:, 0, pixel].astype(np.float32).astype(float)
        line = np.polyfit(ENERGY[pre] - centre, y[pre], 1)
        step = np.mean(y[post] - np.polyval(line, ENERGY[post] - centre))
        above = y - np.polyval(line, ENERGY - centre) - 0.5 * step
        running = np.concatenate([[0.0], np.cumsum(above[inside] * np.gradient(ENERGY[inside]))])
        j = inside[np.argmin(running) - 1]
        crossing = ENERGY[j] - above[j] / (above[j + 1] - above[j]) * (ENERGY[j + 1] - ENERGY[j])
        assert maps.edge_energy_ev[0, pixel] == pytest.approx(crossing, abs=2e-3)
        assert maps.edge_jump[0, pixel] == pytest.approx(step, rel=1e-4)


def arctan_gauss(centres):
    x = ENERGY.reshape(-1, *[1] * np.ndim(centres)) - centres
    clean = 0.5 + np.arctan(x / 1.3) / np.pi + 0.6 * np.exp(-0.5 * ((x - 7.0) / 2.6) ** 2)
    return background() + 0.4 * clean


def test_arctan_gauss_sigma_agrees_with_monte_carlo():
    frames = arctan_gauss(np.full((60, 60), 8343.2))
    frames = frames + 0.004 * np.random.default_rng(1).standard_normal(frames.shape)
    maps = fit_stack(ENERGY, frames, method="arctan_gauss")
    assert maps.has_value.mean() > 0.999
    scatter = np.nanstd(maps.edge_energy_ev)
    assert np.sqrt(np.nanmean(maps.edge_energy_sigma_ev.astype(float) ** 2)) == pytest.approx(
        scatter, rel=0.1
    )
    assert np.nanmean(maps.edge_energy_ev) == pytest.approx(8343.2, abs=0.1 * float(scatter))


@pytest.mark.parametrize("dip", [0.0, 0.1, 0.2, 0.3])
@pytest.mark.parametrize("shoulder", [0.0, 0.15, 0.3])
def test_arctan_gauss_moves_with_spectra_that_are_not_its_own_model(dip, shoulder):
    # Their least residual is often that of a broad peak with a step in its middle, 6 eV above the edge.
    shifts = np.linspace(0.0, 1.4, 8)
    x = ENERGY[:, None] - 8344.8 - shifts
    own = 0.5 + np.arctan(x / 2.2) / np.pi + 0.75 * np.exp(-0.5 * ((x - 6.8) / 2.4) ** 2)
    other = shoulder * np.exp(-0.5 * ((x - 2.5) / 2.0) ** 2) - dip * np.exp(-0.5 * ((x - 17.0) / 5.0) ** 2)
    maps = fit_stack(ENERGY, (own + other)[:, None], method="arctan_gauss")
    assert (maps.status == FitStatus.OK).all()
    moved = maps.edge_energy_ev[0] - maps.edge_energy_ev[0, 0]
    assert moved == pytest.approx(shifts, abs=0.05)


def test_arctan_gauss_recovers_its_own_model():
    centres = np.linspace(8341.5, 8345.5, 15)
    maps = fit_stack(ENERGY, arctan_gauss(centres[None]), method="arctan_gauss")
    assert (maps.status == FitStatus.OK).all()
    np.testing.assert_allclose(maps.edge_energy_ev[0], centres, atol=2e-3)
    np.testing.assert_allclose(maps.edge_jump[0], 0.4, rtol=1e-3)


def test_missing_frames_use_what_is_left():
    frames = stack(np.full((1, 4), 8343.0), noise=0.002, seed=5).astype(np.float32)
    frames[5, 0, 1] = np.nan
    frames[[14, 40], 0, 2] = np.nan
    frames[:, 0, 3] = np.nan
    for method in ("half_jump", "inflection", "white_line", "arctan_gauss"):
        maps = fit_stack(ENERGY, frames, method=method)
        assert maps.status[0].tolist() == [0, 0, 0, FitStatus.NO_DATA]
        for pixel, gone in ((1, [5]), (2, [14, 40])):
            keep = np.setdiff1d(np.arange(ENERGY.size), gone)
            alone = fit_stack(ENERGY[keep], frames[keep][:, :, pixel : pixel + 1], method=method)
            assert maps.edge_energy_ev[0, pixel] == pytest.approx(alone.edge_energy_ev[0, 0], abs=1e-3)


def test_no_frames_in_a_window_is_said():
    keep = ENERGY < 8400
    maps = fit_stack(ENERGY[keep], stack(np.full((2, 2), 8343.0))[keep], method="half_jump")
    assert maps.counts() == {"TOO_FEW_FRAMES": 4}
    assert np.isnan(maps.edge_energy_ev).all()


def test_an_edge_outside_of_the_search_window_is_not_found():
    maps = fit_stack(ENERGY, stack(np.full((1, 1), 8356.0), noise=0.001), method="half_jump")
    assert maps.counts() == {"NOT_FOUND": 1}
    assert maps.edge_jump[0, 0] == pytest.approx(0.6, rel=0.05)
    assert np.isnan(maps.edge_energy_ev[0, 0])


def test_state_comes_from_the_same_estimator_on_the_references():
    soc = np.array([0.0, 0.3, 0.7, 1.0])
    series = ReferenceSeries(ENERGY, spectrum(8342.0 + 2.0 * soc), soc)
    true = np.linspace(0.05, 0.95, 19)
    frames = stack(8342.0 + 2.0 * true[None], noise=0.0005)
    for method in ("half_jump", "inflection", "white_line"):
        maps = fit_stack(ENERGY, frames, method=method, references=series)
        np.testing.assert_allclose(maps.soc[0], true, atol=0.05)
        assert np.isfinite(maps.soc_sigma).all()
    beyond = fit_stack(ENERGY, stack(np.array([[8341.8, 8344.3]])), method="half_jump", references=series)
    assert beyond.status[0].tolist() == [FitStatus.BELOW_RANGE, FitStatus.ABOVE_RANGE]
    assert beyond.soc[0, 0] < 0.0
    assert beyond.soc[0, 1] > 1.0


def test_half_jump_of_noise_is_never_plausible_but_weak_edges_say_how_weak():
    maps = fit_stack(ENERGY, stack(np.full((100, 100), 8343.0), jump=0.02, noise=0.01), method="half_jump")
    kept = maps.has_value
    if kept.any():
        assert np.median(maps.edge_energy_sigma_ev[kept]) > 1.0


def test_masks_by_contrast_quality_and_depth():
    frames = np.concatenate(
        [
            stack(np.full((1, 50), 8343.0), jump=0.6, noise=0.01),
            stack(np.full((1, 50), 8343.0), jump=0.02, noise=0.01),
        ],
        axis=1,
    )
    frames[:, 0, :5] += 3.0
    frames[20, 0, 5:9] += 1.0
    maps = fit_stack(ENERGY, frames, method="half_jump")
    assert reliable_pixels(maps)[0, 10:].all()
    assert not reliable_pixels(maps)[1].any()
    shallow = reliable_pixels(maps, max_optical_depth=2.5)
    assert not shallow[0, :5].any()
    assert shallow[0, 10:].all()
    masked = mask_maps(maps, shallow)
    assert np.isnan(masked.soc[0, :5]).all()
    assert np.isnan(masked.edge_energy_ev[0, :5]).all()
    assert (masked.status[0, :5] == FitStatus.MASKED).all()
    assert masked.counts()["MASKED"] == int((maps.has_value & ~shallow).sum())
    np.testing.assert_array_equal(masked.edge_energy_ev[0, 10:], maps.edge_energy_ev[0, 10:])
    good = reliable_pixels(maps, max_goodness=float(np.median(maps.goodness[0])))
    assert 0 < good[0].sum() < 50
