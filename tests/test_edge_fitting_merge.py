"""Parts of a scan, tiles and workers added up, and frames taken out again, against one fit of everything."""

import numpy as np
import pytest

from edge_fitting import EdgeFitter, EdgeFittingError, ReferenceSeries

SHAPE = (12, 20)
ENERGIES = np.r_[8250:8330:16, 8330:8366:1.5, 8380:8500:24].astype(float)


def spectrum(energy_ev, soc):
    centre = 8343.0 + 2.0 * np.asarray(soc)[..., None]
    step = 0.5 + np.arctan((energy_ev - centre) / 1.6) / np.pi
    return step + 0.7 * np.exp(-(((energy_ev - centre - 6) / 4) ** 2))


@pytest.fixture(scope="module")
def references():
    socs = np.linspace(0, 1, 5)
    fine = np.r_[8240:8325:5, 8325:8370:0.5, 8370:8520:5]
    return ReferenceSeries(fine, spectrum(fine, socs), socs)


@pytest.fixture(scope="module")
def stack():
    rng = np.random.default_rng(5)
    soc = np.linspace(0.1, 0.9, SHAPE[0] * SHAPE[1]).reshape(SHAPE)
    depth = 0.3 + 0.8 * np.moveaxis(spectrum(ENERGIES, soc), -1, 0)
    depth = (depth + rng.normal(0, 0.02, depth.shape)).astype(np.float32)
    depth[rng.random(depth.shape) < 0.002] = np.nan  # zingers, each pixel with a history of its own
    depth[4, :3] = np.nan  # rows that one frame lacks
    depth[:, 7, 7] = np.nan  # a dead pixel
    depth[10:12, 9, 9] = np.inf
    return depth


@pytest.fixture(params=["series", "lcf", "half_jump", "own_family"])
def make(request, references):
    own = request.param == "own_family"
    return lambda shape=SHAPE: EdgeFitter(
        shape, method="series" if own else request.param, references=None if own else references
    )


def weights():
    return np.linspace(0.5, 2.0, ENERGIES.size)


def fitted(make, stack, frames, shape=SHAPE, area=np.s_[:, :]):
    fitter = make(shape)
    for k in frames:
        fitter.push(ENERGIES[k], stack[k][area], weights()[k])
    return fitter


def assert_same(maps, other, *, highest=True):
    np.testing.assert_array_equal(maps.status, other.status)
    assert maps.n_frames == other.n_frames
    names = ["soc", "soc_sigma", "edge_energy_ev", "edge_energy_sigma_ev", "edge_jump", "goodness", "noise"]
    for name in [*names, "optical_depth"] if highest else names:
        np.testing.assert_allclose(
            getattr(maps, name), getattr(other, name), rtol=2e-3, atol=2e-4, equal_nan=True, err_msg=name
        )


def test_halves_of_a_scan_in_any_order(make, stack):
    everything = fitted(make, stack, range(ENERGIES.size)).maps()
    assert (everything.status == 0).mean() > 0.6
    shuffled = np.random.default_rng(1).permutation(ENERGIES.size)
    merged = fitted(make, stack, shuffled[:20])
    merged.merge(fitted(make, stack, shuffled[20:]))
    assert_same(merged.maps(), everything)


def test_three_workers_one_of_them_without_a_frame(make, stack):
    merged = make()
    merged.merge(fitted(make, stack, range(0, ENERGIES.size, 2)))
    merged.merge(make())
    merged.merge(fitted(make, stack, range(1, ENERGIES.size, 2)))
    assert_same(merged.maps(), fitted(make, stack, range(ENERGIES.size)).maps())


def test_early_halves_share_the_noise_of_neighbours(references, stack):
    """With few frames the noise is pooled over neighbours, also across what was merged."""
    make = lambda shape=SHAPE: EdgeFitter(shape, references=references)  # noqa: E731
    early = [0, 3, 12, 15, 18, 22, 27]
    merged = fitted(make, stack, early[:3])
    merged.merge(fitted(make, stack, early[3:]))
    assert_same(merged.maps(), fitted(make, stack, early).maps())


def test_four_tiles(make, stack):
    tiles = []
    for row, column in ((0, 0), (0, 11), (5, 0), (5, 11)):
        shape = (5 if row == 0 else 7, 11 if column == 0 else 9)
        area = np.s_[row : row + shape[0], column : column + shape[1]]
        order = np.random.default_rng(row + column).permutation(ENERGIES.size)
        tiles.append(((row, column), fitted(make, stack, order, shape, area)))
    assert_same(EdgeFitter.from_tiles(SHAPE, tiles).maps(), fitted(make, stack, range(ENERGIES.size)).maps())


def test_tiles_of_a_fitter_look_at_the_pixels_that_it_looks_at():
    shape = (72, 64)  # more pixels than are looked at for the offset of the axis
    rng = np.random.default_rng(8)

    def rising(energy_ev, soc):  # a white line that grows tells an offset from a change of state
        state = np.asarray(soc)[..., None]
        centre = 8343.0 + 2.0 * state
        return spectrum(energy_ev, soc) + 0.4 * state * np.exp(-(((energy_ev - centre - 6) / 4) ** 2))

    states, fine = np.linspace(0, 1, 5), np.r_[8240:8325:5, 8325:8370:0.5, 8370:8520:5].astype(float)
    references = ReferenceSeries(fine, rising(fine, states), states)
    soc = rng.uniform(0.1, 0.9, shape)
    depth = 0.3 + 0.8 * np.moveaxis(rising(ENERGIES + 0.2, soc), -1, 0)
    depth = (depth + rng.normal(0, 0.02, depth.shape)).astype(np.float32)
    for choice in ("report", "fit"):
        whole = EdgeFitter(shape, references=references, axis_offset=choice)
        tiles = [((row, 0), whole.tile((row, 0), (24, 64))) for row in (0, 24, 48)]
        for (row, _), tile in reversed(tiles):
            tile.push(ENERGIES, depth[:, row : row + 24], weights())
        whole.push(ENERGIES, depth, weights())
        joined, maps = EdgeFitter.from_tiles(shape, tiles).maps(), whole.maps()
        assert maps.axis_offset_ev == pytest.approx(-0.2, abs=0.05)
        assert joined.axis_offset_ev == pytest.approx(maps.axis_offset_ev, abs=1e-9)
        assert joined.warnings == maps.warnings
        np.testing.assert_allclose(joined.soc, maps.soc, atol=1e-6, equal_nan=True)
        np.testing.assert_allclose(joined.soc_sigma, maps.soc_sigma, atol=1e-6, equal_nan=True)
    with pytest.raises(EdgeFittingError, match="not inside"):
        whole.tile((50, 0), (24, 64))


def test_a_frame_taken_out_was_never_there(make, stack):
    bad = stack[13] + np.float32(0.2)
    bad[3, 3] = np.inf
    fitter = fitted(make, stack, range(13))
    fitter.push(ENERGIES[13], bad, 1.7)
    for k in range(13, ENERGIES.size):
        fitter.push(ENERGIES[k], stack[k], weights()[k])
    fitter.retract(ENERGIES[13], bad, 1.7)
    assert_same(fitter.maps(), fitted(make, stack, range(ENERGIES.size)).maps(), highest=False)


def test_frames_with_gaps_taken_out_leave_no_gap(references, stack):
    make = lambda shape=SHAPE: EdgeFitter(shape, references=references)  # noqa: E731
    whole = np.nan_to_num(stack, nan=0.5, posinf=0.5)
    fitter = fitted(make, whole, range(ENERGIES.size))
    before = fitter.maps()
    holed = whole[5].copy()
    holed[2:6] = np.nan
    fitter.push(ENERGIES[5], holed, 1.0)
    fitter.retract(ENERGIES[5], holed, 1.0)
    assert_same(fitter.maps(), before)


def test_counts_are_taken_out_as_they_were_added(make, stack):
    rng = np.random.default_rng(2)
    flat, dark = np.full(SHAPE, 20000.0), np.full(SHAPE, 100.0)
    counts = (rng.poisson(flat * np.exp(-np.nan_to_num(stack[9], nan=0.5, posinf=0.5))) + dark).astype(
        np.uint16
    )
    given = {"dark": dark, "flat": flat + dark, "scale": 1.1, "weight": 0.7, "saturation": 17000}
    fitter = fitted(make, stack, range(ENERGIES.size))
    before = fitter.maps()
    fitter.push_counts(ENERGIES[9], counts, **given)
    assert fitter.n_frames == ENERGIES.size + 1
    fitter.retract_counts(ENERGIES[9], counts, **given)
    assert_same(fitter.maps(), before, highest=False)


def test_what_does_not_fit_together_is_refused(references, stack):
    fitter = EdgeFitter(SHAPE, references=references)
    with pytest.raises(EdgeFittingError, match="none can be taken out"):
        fitter.retract(ENERGIES[0], stack[0])
    with pytest.raises(EdgeFittingError, match="cannot be merged"):
        fitter.merge(EdgeFitter((3, 3), references=references))
    with pytest.raises(EdgeFittingError, match="different method"):
        fitter.merge(EdgeFitter(SHAPE, references=references, method="lcf"))
    other = ReferenceSeries(references.energy_ev, references.mu[:3], references.soc[:3])
    with pytest.raises(EdgeFittingError, match="different references"):
        fitter.merge(EdgeFitter(SHAPE, references=other))
    kept = EdgeFitter(SHAPE, method="half_jump")
    kept.push(ENERGIES[0], stack[0])
    with pytest.raises(EdgeFittingError, match="no frame of 8250 eV with these values"):
        kept.retract(ENERGIES[0], stack[1])
    half = EdgeFitter((6, 20), references=references)
    with pytest.raises(EdgeFittingError, match="leave 120 pixels out"):
        EdgeFitter.from_tiles(SHAPE, [((0, 0), half)])
    other_half = EdgeFitter((6, 20), references=references)
    other_half.push(ENERGIES[0], stack[0, 6:])
    with pytest.raises(EdgeFittingError, match="do not hold the same frames"):
        EdgeFitter.from_tiles(SHAPE, [((0, 0), half), ((6, 0), other_half)])
    with pytest.raises(EdgeFittingError, match="not inside"):
        EdgeFitter.from_tiles(SHAPE, [((0, 0), half), ((7, 0), half)])
