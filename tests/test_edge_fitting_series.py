"""The series fit against truth it did not make: analytic spectra, the Cramer-Rao bound, real spectra."""

import numpy as np
import pytest

from edge_fitting import EDGES, EdgeFitter, EdgeFittingError, FitStatus, ReferenceSeries, fit_lcf, fit_stack

# Energies of the 62-point grid of the field: coarse before and after, 1 eV across the edge.
GRID = np.concatenate(
    [
        np.arange(8250, 8311, 15.0),
        np.arange(8324, 8360, 1.0),
        np.arange(8360, 8400, 4.0),
        np.arange(8400, 8440, 8.0),
        np.arange(8440, 8691, 50.0),
    ]
)
SHIFT_EV = 3.0


def spectrum(energy, soc):
    """Arctan step and Gaussian white line that move and grow with the state of charge."""
    edge = 8343.0 + SHIFT_EV * np.asarray(soc)[..., None]
    line = np.exp(-(((energy - edge - 7.0) / 3.5) ** 2))
    return 0.5 + np.arctan((energy - edge) / 1.6) / np.pi + (0.5 + 0.1 * np.asarray(soc)[..., None]) * line


def references(n=7, energy=GRID):
    soc = np.linspace(0.0, 1.0, n)
    return ReferenceSeries(energy, spectrum(energy, soc), soc)


def stack_of(soc, *, jump=0.5, noise=0.0, energy=GRID, seed=0, offset=0.4, slope=-0.05):
    """Stack (n_energy, rows, cols) of pixels of given states."""
    clean = offset + slope * (energy[:, None, None] - 8340.0) / 100.0
    clean = clean + jump * np.moveaxis(spectrum(energy, soc), -1, 0)
    return clean + noise * np.random.default_rng(seed).standard_normal(clean.shape)


def cramer_rao(energy, soc, jump_to_noise):
    """Bound on the standard deviation of the state, from the analytic spectrum."""
    step = 1e-4
    slope = (spectrum(energy, soc + step) - spectrum(energy, soc - step)) / (2.0 * step)
    design = np.stack([slope, spectrum(energy, soc), np.ones_like(energy), (energy - 8340.0) / 100.0], axis=1)
    return np.sqrt(np.linalg.inv(design.T @ design)[0, 0]) / jump_to_noise


def test_noise_free_spectra_are_read_exactly():
    soc = np.linspace(0.0, 1.0, 63).reshape(7, 9)
    maps = fit_stack(GRID, stack_of(soc), references=references(13))
    assert set(maps.counts()) == {"OK"}
    np.testing.assert_allclose(maps.soc, soc, atol=1e-3)
    np.testing.assert_allclose(maps.edge_jump, 0.5, rtol=2e-3)
    assert np.nanmax(maps.goodness) < 1e-5


def test_reference_spectra_themselves_come_back_at_their_own_state():
    series = references(5)
    pixels = (0.2 + 0.7 * series.mu.T)[:, :, None]
    maps = fit_stack(GRID, pixels, references=series)
    np.testing.assert_allclose(maps.soc[:, 0], series.soc, atol=2e-5)
    np.testing.assert_allclose(maps.edge_jump[:, 0], 0.7, rtol=1e-4)
    assert (maps.status == FitStatus.OK).all()


@pytest.mark.parametrize("percent", [1, 3, 5])
def test_precision_is_at_the_cramer_rao_bound(percent):
    true = 0.45
    soc = np.full((120, 120), true)
    maps = fit_stack(GRID, stack_of(soc, noise=0.5 * percent / 100, seed=percent), references=references())
    bound = cramer_rao(GRID, true, 100 / percent)
    error = maps.soc - true
    assert np.isfinite(error).all()
    assert np.sqrt(np.mean(error**2)) <= 1.05 * bound
    assert abs(error.mean()) <= 0.1 * bound
    assert np.median(maps.soc_sigma) == pytest.approx(bound, rel=0.05)
    assert np.std(error / maps.soc_sigma) == pytest.approx(1.0, abs=0.05)


def test_weights_reach_the_bound_where_frames_differ_in_noise():
    random = np.random.default_rng(4)
    sigma = np.where(np.arange(GRID.size) % 2, 0.05, 0.01)
    soc = np.full((80, 80), 0.5)
    stack = stack_of(soc) + sigma[:, None, None] * random.standard_normal((GRID.size, 80, 80))
    plain = fit_stack(GRID, stack, references=references())
    weighted = fit_stack(GRID, stack, references=references(), weights=(0.02 / sigma) ** 2)
    assert weighted.soc.std() < 0.7 * plain.soc.std()
    assert np.std((weighted.soc - 0.5) / weighted.soc_sigma) == pytest.approx(1.0, abs=0.05)
    assert np.median(weighted.noise) == pytest.approx(0.02, rel=0.03)


def test_edge_energy_is_the_half_jump_of_the_series_and_its_sigma_holds():
    soc = np.full((100, 100), 0.3)
    maps = fit_stack(GRID, stack_of(soc, noise=0.01), references=references())
    fine = np.arange(8330.0, 8360.0, 1.0)
    curve = spectrum(fine, 0.3)
    k = int(np.argmax(curve >= 0.5))
    crossing = fine[k - 1] + (0.5 - curve[k - 1]) / (curve[k] - curve[k - 1])
    assert np.mean(maps.edge_energy_ev) == pytest.approx(crossing, abs=0.03)
    assert maps.edge_energy_ev.std() == pytest.approx(np.median(maps.edge_energy_sigma_ev), rel=0.1)
    assert "half-jump" in maps.definition


def test_states_beyond_the_references_are_flagged_not_clipped():
    soc = np.array([[-0.6, -0.1, 0.0, 0.5, 1.0, 1.1, 1.6]])
    maps = fit_stack(GRID, stack_of(soc), references=references(13))
    expected = [
        FitStatus.BELOW_RANGE,
        FitStatus.BELOW_RANGE,
        FitStatus.OK,
        FitStatus.OK,
        FitStatus.OK,
        FitStatus.ABOVE_RANGE,
        FitStatus.ABOVE_RANGE,
    ]
    assert maps.status[0].tolist() == expected
    assert np.isnan(maps.soc[0, [0, 6]]).all()
    assert maps.soc[0, 1] < -0.05
    assert maps.soc[0, 5] > 1.05


def test_noise_alone_never_gets_a_number():
    random = np.random.default_rng(5)
    noise = 0.3 + 0.02 * random.standard_normal((GRID.size, 300, 300))
    for method in ("series", "half_jump", "inflection", "white_line", "lcf", "arctan_gauss"):
        maps = fit_stack(GRID, noise, references=references(), method=method)
        assert set(maps.counts()) <= {"NO_EDGE"}, method
        assert np.isnan(maps.soc).all()
        assert np.isnan(maps.edge_energy_ev).all()
        assert np.isnan(maps.edge_jump).all()


@pytest.mark.parametrize("method", ["series", "half_jump", "inflection", "white_line", "lcf", "arctan_gauss"])
def test_bad_pixels_each_get_their_code(method):
    random = np.random.default_rng(6)
    stack = stack_of(np.full((1, 7), 0.5), noise=0.005, seed=7)
    stack[:, 0, 1] = np.nan
    stack[:, 0, 2] = 0.25
    stack[:, 0, 3] = 0.8 - stack[:, 0, 0] + 0.001 * random.standard_normal(GRID.size)
    stack[:, 0, 4] = np.minimum(stack[:, 0, 0], 0.75)
    stack[20:40, 0, 5] = np.inf
    stack[:, 0, 6] = np.inf
    maps = fit_stack(GRID, stack, references=references(), method=method)
    assert FitStatus(maps.status[0, 0]).has_value
    assert [FitStatus(code).name for code in maps.status[0, 1:]] == [
        "NO_DATA",
        "FLAT",
        "INVERTED",
        "SATURATED",
        "SATURATED",
        "SATURATED",
    ]
    for values in (maps.soc, maps.soc_sigma, maps.edge_energy_ev, maps.edge_energy_sigma_ev):
        assert np.isnan(values[0, 1:]).all()


def test_missing_frames_are_treated_as_if_never_measured():
    soc = np.full((1, 3), 0.4)
    stack = stack_of(soc, noise=0.01).astype(np.float32)
    gone = [3, 20, 30, 55]
    stack[gone, 0, 1] = np.nan
    stack[10:14, 0, 2] = np.nan
    maps = fit_stack(GRID, stack, references=references())
    for pixel, missing in ((1, gone), (2, range(10, 14))):
        keep = np.setdiff1d(np.arange(GRID.size), list(missing))
        alone = fit_stack(GRID[keep], stack[keep][:, :, pixel : pixel + 1], references=references())
        for name in ("soc", "soc_sigma", "edge_energy_ev", "edge_jump", "goodness", "noise"):
            expected = getattr(alone, name)[0, 0]
            assert getattr(maps, name)[0, pixel] == pytest.approx(expected, rel=1e-5), name


def test_few_frames_borrow_their_noise_from_neighbours():
    energies = np.array([8260.0, 8343.0, 8345.0, 8349.0, 8353.0, 8500.0])
    soc = np.full((60, 60), 0.5)
    maps = fit_stack(energies, stack_of(soc, noise=0.01, energy=energies), references=references())
    error = (maps.soc - 0.5)[maps.has_value]
    assert maps.has_value.mean() > 0.99
    assert np.std(error / maps.soc_sigma[maps.has_value]) == pytest.approx(1.0, abs=0.1)


def test_too_few_frames_say_so():
    fitter = EdgeFitter((2, 2), references=references())
    assert fitter.maps().counts() == {"TOO_FEW_FRAMES": 4}
    for energy in GRID[:8]:
        fitter.push(energy, 0.4 + 0.001 * np.random.default_rng(int(energy)).standard_normal((2, 2)))
        maps = fitter.maps()
        assert not maps.has_value.any()
        assert np.isnan(maps.soc).all()
    assert fitter.maps().counts() == {"TOO_FEW_FRAMES": 4}


def test_two_references_give_the_linear_combination():
    energy = GRID
    ends = ReferenceSeries(energy, spectrum(energy, np.array([0.0, 1.0])), [0.0, 1.0])
    mixed = 0.7 * ends.mu[0] + 0.3 * ends.mu[1]
    stack = (
        0.1
        + 0.6 * mixed[:, None, None]
        + 0.01 * np.random.default_rng(1).standard_normal((energy.size, 20, 20))
    )
    series = fit_stack(energy, stack, references=ends)
    linear = fit_lcf(energy, stack, ends)
    end_members = fit_stack(energy, stack, references=ends, method="lcf")
    np.testing.assert_allclose(series.soc, linear.soc, atol=2e-4)
    np.testing.assert_allclose(end_members.soc, linear.soc, atol=1e-5)
    np.testing.assert_allclose(series.soc_sigma, linear.soc_sigma, rtol=2e-2)
    np.testing.assert_allclose(series.goodness, linear.r_factor, rtol=1e-2)


def test_no_kinks_at_the_references():
    # States spread evenly must come back spread evenly: a kink in the curve through the references would pile
    # them up, or thin them out, on one side of a reference.
    soc = np.array([0.0, 0.08, 0.2, 0.35, 0.6, 0.85, 1.0])
    series = ReferenceSeries(GRID, spectrum(GRID, soc), soc)
    true = np.linspace(0.01, 0.99, 4000)
    maps = fit_stack(GRID, stack_of(true[None, :]), references=series)
    found = maps.soc[0].astype(float)
    density = np.gradient(true, found)
    for reference in soc[1:-1]:
        at = np.argmin(np.abs(true - reference))
        left, right = density[at - 60 : at - 5].mean(), density[at + 5 : at + 60].mean()
        assert abs(left - right) < 0.04
    np.testing.assert_allclose(found, true, atol=0.004)
    assert (np.diff(found) > 0).all()


def test_shift_family_needs_no_references():
    shifts = np.linspace(-1.0, 1.0, 400).reshape(20, 20)
    stack = stack_of(0.5 + shifts / SHIFT_EV * 0, noise=0.0)
    for r in range(20):
        for c in range(20):
            stack[:, r, c] = 0.4 + 0.5 * spectrum(GRID - shifts[r, c], 0.5)
    stack += 0.005 * np.random.default_rng(0).standard_normal(stack.shape)
    maps = fit_stack(GRID, stack)
    assert np.isnan(maps.soc).all()
    assert "mean spectrum" in maps.definition
    moved = maps.edge_energy_ev - np.mean(maps.edge_energy_ev)
    assert np.isfinite(moved).all()
    slope = np.polyfit(shifts.ravel(), moved.ravel(), 1)[0]
    assert slope == pytest.approx(1.0, abs=0.03)
    streamed = EdgeFitter((20, 20))
    for energy, frame in zip(GRID, stack, strict=True):
        streamed.push(energy, frame)
    np.testing.assert_allclose(streamed.maps().edge_energy_ev, maps.edge_energy_ev, atol=2e-3)


@pytest.mark.parametrize("shape", [(1, 1), (3, 3)])
def test_few_pixels_of_noise_do_not_find_themselves_in_their_own_mean(shape):
    for seed in range(60):
        noise = 0.02 * np.random.default_rng(seed).standard_normal((GRID.size, *shape))
        maps = fit_stack(GRID, noise)
        assert np.isnan(maps.edge_energy_ev).all(), seed
    one = fit_stack(GRID, stack_of(np.full((1, 1), 0.5), noise=0.005))
    assert one.status[0, 0] == FitStatus.OK


def test_without_references_there_is_no_edge_energy_before_the_edge_is_whole():
    soc = np.random.default_rng(5).random((20, 20))
    frames = stack_of(soc, noise=0.005)
    fitter = EdgeFitter((20, 20))
    whole = fit_stack(GRID, frames)
    for energy, frame in zip(GRID, frames, strict=True):
        fitter.push(energy, frame)
        found = fitter.maps().edge_energy_ev
        # Not a wandering number that the post-edge corrects later.
        assert np.isnan(found).all() or np.nanmax(np.abs(found - whole.edge_energy_ev)) < 1.0, energy
    assert np.isfinite(found).all()


def test_a_spectrum_of_two_energies_cannot_be_moved():
    with pytest.raises(EdgeFittingError, match="three or more"):
        ReferenceSeries.shift_family([8300.0, 8400.0], [0.0, 1.0])


def test_raw_references_are_normalised():
    series = references(5)
    raw = 0.3 + 0.1 * (GRID - 8340.0) / 100.0 + 2.5 * series.mu
    again = ReferenceSeries(GRID, raw, series.soc)
    soc = np.linspace(0.1, 0.9, 9)[None]
    stack = stack_of(soc, noise=0.001)
    np.testing.assert_allclose(
        fit_stack(GRID, stack, references=again).soc, fit_stack(GRID, stack, references=series).soc, atol=3e-3
    )


def test_series_travels_as_plain_lists():
    import json

    series = references(4)
    again = ReferenceSeries.from_dict(json.loads(json.dumps(series.to_dict())))
    np.testing.assert_array_equal(again.mu, series.mu)
    np.testing.assert_array_equal(again.evaluate(GRID, 0.37), series.evaluate(GRID, 0.37))


def test_sources_follow_their_spectra_into_the_order_of_the_series():
    energy = np.arange(8300.0, 8400.0, 1.0)
    mu = [0.5 + np.arctan((energy - 8345.0 - soc) / 2.0) / np.pi for soc in (2.0, 0.0, 1.0)]
    sources = [{"name": "two"}, {"name": "none", "version": "3"}, {"name": "one"}]
    series = ReferenceSeries(energy, mu, (2.0, 0.0, 1.0), sources=sources)
    assert [source["name"] for source in series.sources] == ["none", "one", "two"]
    sources[1]["version"] = "4"  # what it was given stays the caller's
    assert series.sources[0]["version"] == "3"
    assert ReferenceSeries.from_dict(series.to_dict()).sources == series.sources
    plain = ReferenceSeries(energy, mu, (2.0, 0.0, 1.0))
    assert plain.sources == ()
    assert "sources" not in plain.to_dict()
    assert np.array_equal(plain.mu, series.mu)
    for bad, words in (
        (sources[:2], "3 references but 2 sources"),
        ("abc", "must be mappings"),
        ([1, 2, 3], "must be mappings"),
    ):
        with pytest.raises(EdgeFittingError, match=words):
            ReferenceSeries(energy, mu, (2.0, 0.0, 1.0), sources=bad)


def test_series_interpolates_along_energy_between_its_points():
    series = references(9, energy=np.arange(8250.0, 8700.0, 0.5))
    between = np.arange(8330.1, 8370.0, 0.77)
    np.testing.assert_allclose(series.evaluate(between, 0.5), spectrum(between, 0.5), atol=2e-3)
    assert series.evaluate(between, [0.1, 0.2]).shape == (2, between.size)


@pytest.mark.parametrize(
    ("energy", "mu", "soc", "message"),
    [
        ([], np.zeros((2, 0)), [0, 1], "empty"),
        (GRID / 1000, spectrum(GRID, np.array([0, 1])), [0, 1], "keV"),
        (GRID, spectrum(GRID, np.array([0, 1])), [0, 0], "same soc"),
        (GRID, spectrum(GRID, np.array([0, 1]))[:, :-1], [0, 1], "n_ref, n_energy"),
        (GRID, spectrum(GRID, np.array([0, 1])), [0, 0.5, 1], "soc has shape"),
        (GRID, spectrum(GRID, np.array([0])), [0], "at least two"),
        (GRID, np.where(GRID > 8400, np.nan, spectrum(GRID, np.array([0, 1]))), [0, 1], "not finite"),
        (GRID, spectrum(GRID, np.array([0, 1])), [0, np.inf], "soc is not finite"),
        (GRID, -spectrum(GRID, np.array([0, 1])), [0, 1], "no rising edge"),
        (GRID, spectrum(GRID, np.array([0.3, 0.3])), [0, 1], "same spectrum"),
        (GRID, "spectra", [0, 1], "must be numbers"),
    ],
)
def test_bad_references_are_refused_in_a_sentence(energy, mu, soc, message):
    with pytest.raises(EdgeFittingError, match=message):
        ReferenceSeries(energy, mu, soc)


def test_a_missing_key_of_a_stored_series_is_named():
    with pytest.raises(EdgeFittingError, match="soc is missing"):
        ReferenceSeries.from_dict({"energy_ev": [1], "mu": [[1]]})


@pytest.mark.parametrize(
    ("energy", "stack", "options", "message"),
    [
        ([], np.zeros((0, 2, 2)), {}, "empty"),
        (GRID / 1000, None, {}, "keV"),
        (np.where(GRID == 8340, np.nan, GRID), None, {}, "not finite"),
        (GRID - 1500, None, {}, "cannot belong to a scan of the Ni_K edge"),
        (np.append(GRID[:-1], 8900.0), None, {}, "references cover"),
        (GRID, np.zeros((3, 2, 2)), {}, "3 frames but there are 62"),
        (GRID, np.zeros(GRID.size), {}, "n_energy, rows, cols"),
        (GRID, np.zeros((GRID.size, 0, 3)), {}, "no pixel"),
        (GRID, np.zeros((GRID.size, 2, 2), complex), {}, "real numbers"),
        (GRID, None, {"edge": "Xx_K"}, "no edge"),
        (GRID, None, {"method": "magic"}, "unknown method"),
        (GRID, None, {"references": "NiO"}, "must be a ReferenceSeries"),
        (GRID, None, {"references": None, "method": "lcf"}, "needs references"),
        (GRID, None, {"weights": np.zeros(GRID.size)}, "positive and finite"),
        (GRID, None, {"weights": np.ones(3)}, "one per frame"),
    ],
)
def test_bad_stacks_are_refused_in_a_sentence(energy, stack, options, message):
    stack = np.zeros((np.size(energy), 2, 2)) if stack is None else stack
    with pytest.raises(EdgeFittingError, match=message):
        fit_stack(energy, stack, **({"references": references()} | options))


def test_edges_know_their_numbers():
    assert EDGES["Ni_K"].energy_ev == 8333.0
    assert EDGES["Mn_K"].foil_inflection_ev == 6539.0
    assert {edge.name for edge in EDGES.values()} == set(EDGES)
    for edge in EDGES.values():
        assert (
            edge.pre_edge_ev[1]
            < edge.half_jump_window_ev[0]
            < edge.white_line_window_ev[1]
            < edge.post_edge_ev[1]
        )
    with pytest.raises(TypeError):
        EDGES["Fe_K"] = None


@pytest.mark.slow
def test_real_particle_with_its_own_references(shared_data):
    h5py = pytest.importorskip("h5py")
    with h5py.File(shared_data / "stacks" / "semireal_ni_k_particle.h5") as file:
        energy, dark = file["energy_ev"][:], file["dark"][:]
        depth = -np.log((file["frames"][:] - dark) / (file["flats"][:] - dark))
        series = ReferenceSeries(energy, file["reference/mu"][:], file["reference/soc"][:])
        soc, jump, mask = file["truth/soc"][:], file["truth/edge_jump"][:], file["truth/mask"][:]
    maps = fit_stack(energy, depth, references=series)
    for low, high, limit in ((0.4, 9.0, 0.048), (0.2, 0.4, 0.086)):
        inside = mask & (jump > low) & (jump <= high)
        error = (maps.soc - soc)[inside]
        assert np.isfinite(error).mean() > 0.999
        assert np.sqrt(np.nanmean(error**2)) <= limit
        assert abs(np.nanmean(error)) < 0.005
    # Open beam has no edge, and none is found there.
    assert (maps.status[~mask] == FitStatus.NO_EDGE).all()


def half_jump_places(energy, spectra):
    k = np.argmax(spectra >= 0.5, axis=1)
    rows = np.arange(len(spectra))
    low, high = spectra[rows, k - 1], spectra[rows, k]
    return energy[k - 1] + (0.5 - low) / (high - low) * (energy[k] - energy[k - 1])


def dominant_places(energy, spectra):
    place = np.linalg.svd(spectra - spectra.mean(axis=0), full_matrices=False)[0][:, 0]
    return place * np.sign(place[7] - place[0])


@pytest.mark.parametrize("places", [half_jump_places, dominant_places])
def test_real_charge_spectra_leave_one_out(shared_data, places):
    files = sorted((shared_data / "spectra" / "Ni").glob("perex_norm_op2_*.txt"))
    tables = [np.loadtxt(file) for file in files]
    grid = np.arange(8250.0, 8550.0, 1.0)
    spectra = np.array([np.interp(grid, table[:, 0], table[:, 1]) for table in tables])
    # Places that owe nothing to the fit: the half-jump, or the projection on the dominant change.
    place = places(grid, spectra)
    order = np.argsort(place)
    place = (place[order] - place[order][0]) / np.ptp(place)
    spectra = spectra[order]
    found = []
    for k in range(1, len(place) - 1):
        others = np.delete(np.arange(len(place)), k)
        series = ReferenceSeries(grid, spectra[others], place[others])
        maps = fit_stack(grid, spectra[k][:, None, None], references=series)
        found.append(float(maps.soc[0, 0]))
    assert np.abs(np.array(found) - place[1:-1]).max() <= 0.013
    assert (np.diff(found) > 0).all()


@pytest.mark.parametrize("name", ["Ni_L3", "Co_L3", "Mn_L3"])
def test_soft_edges_are_fitted_too(name):
    edge = EDGES[name]
    energy = edge.energy_ev + np.arange(-8.0, 9.01, 0.25)

    def soft(soc):
        x = energy - edge.energy_ev - 0.3
        low, high = np.exp(-((x / 0.7) ** 2)), np.exp(-(((x - 1.9) / 0.8) ** 2))
        soc = np.asarray(soc)[..., None]
        return 0.5 + np.arctan(x / 0.3) / np.pi + 5.0 * ((1.0 - 0.4 * soc) * low + (0.5 + 0.5 * soc) * high)

    states = np.array([0.0, 0.5, 1.0])
    series = ReferenceSeries(energy, soft(states), states)
    true = np.linspace(0.02, 0.98, 49).reshape(7, 7)
    stack = 0.2 + 0.15 * np.moveaxis(soft(true), -1, 0)
    stack += 0.003 * np.random.default_rng(0).standard_normal(stack.shape)
    maps = fit_stack(energy, stack, edge=name, references=series)
    assert maps.has_value.all()
    assert np.sqrt(np.mean((maps.soc - true) ** 2)) < 0.02
    for method in ("half_jump", "white_line"):
        found = fit_stack(energy, stack, edge=name, method=method)
        assert found.has_value.mean() > 0.9, (method, found.counts())
