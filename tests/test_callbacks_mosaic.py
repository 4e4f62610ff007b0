"""A sample larger than the field of view: the plan on the twin, and tiles put together against the truth."""

import numpy as np
import pytest
from bluesky import RunEngine
from scipy.ndimage import gaussian_filter

from beamline_plans import EnergyGrid, PlanError, dry_run, tile_centres, xanes_mosaic
from callbacks import FULL_FIELD_SCHEMA, CallbackError, draw_mosaic, open_soc, stitch_mosaic
from edge_fitting import FitStatus, match_maps
from nimco._commands import mosaic
from nimco.errors import NimcoError
from nimco.testing import TwinSession
from sim_devices import SampleSettings, SimBeamline, TwinSettings

TILE, STEP, NOISE = (60, 70), (44, 52), 0.05
PIXEL_UM = 0.5


def test_tiles_cover_what_is_asked_for_in_a_snake():
    tiles = tile_centres((70.0, 100.0), (32.0, 32.0), overlap=0.25)
    assert [(row, column) for row, column, _, _ in tiles[:6]] == [
        (0, 0),
        (0, 1),
        (0, 2),
        (0, 3),
        (1, 3),
        (1, 2),
    ]
    rows, columns = (sorted({tile[k] for tile in tiles}) for k in (2, 3))
    for centres, extent in ((rows, 70.0), (columns, 100.0)):
        assert centres[0] - 16 == pytest.approx(-extent / 2)
        assert centres[-1] + 16 == pytest.approx(extent / 2)
        assert np.diff(centres).max() <= 32 * 0.75 + 1e-9
    assert tile_centres((10.0, 10.0), (32.0, 32.0)) == [(0, 0, 0.0, 0.0)]
    # A thin diagonal passes tiles that none of its corners is in.
    line = [(-35.0, -50.0), (-34.0, -50.0), (35.0, 50.0)]
    some = tile_centres((70.0, 100.0), (32.0, 32.0), overlap=0.25, polygon_um=line)
    assert 4 <= len(some) < len(tiles)
    assert {(0, 0), (2, 3)} < {tile[:2] for tile in some}
    assert (0, 3) not in {tile[:2] for tile in some}
    inside = tile_centres(
        (70.0, 100.0), (32.0, 32.0), polygon_um=[(-99, -99), (-99, 99), (99, 99), (99, -99)]
    )
    assert len(inside) == len(tile_centres((70.0, 100.0), (32.0, 32.0)))
    for arguments, said in (
        (((0.0, 1.0), (1.0, 1.0)), "positive numbers of um"),
        (((1.0,), (1.0, 1.0)), "is two numbers"),
        (((9.0, 9.0), (1.0, float("nan"))), "positive numbers of um"),
        (((9e9, 9.0), (1.0, 1.0)), "too much"),
        (((900.0, 900.0), (1.0, 1.0)), "too much"),
    ):
        with pytest.raises(PlanError, match=said):
            tile_centres(*arguments)
    for options, said in (
        ({"overlap": 1.0}, "overlap by a share"),
        ({"overlap": 0.0}, "overlap by a share"),
        ({"polygon_um": [(0, 0), (1, 1)]}, "three corners"),
        ({"polygon_um": [(500, 500), (501, 500), (500, 501)]}, "No tile"),
    ):
        with pytest.raises(PlanError, match=said):
            tile_centres((70.0, 100.0), (32.0, 32.0), **options)


@pytest.fixture
def scene():
    """Return true state of charge and edge jump of a sample of 3 x 3 tiles."""
    rng = np.random.default_rng(1)
    size = [tile + 2 * step + 20 for tile, step in zip(TILE, STEP, strict=True)]
    jump = gaussian_filter(rng.normal(0, 1, size), 4)
    soc = 0.5 + 0.1 * gaussian_filter(rng.normal(0, 1, size), 6) / 0.05
    return soc, np.clip(1.0 + jump / jump.std(), 0.0, None)


def made_tile(scene, rng, number, error, **about):
    """Return the result of a tile that lies beside where the motors should have put it."""
    soc, jump = scene
    row, column = divmod(number, 3)
    top, left = 10 + STEP[0] * row + error[0], 10 + STEP[1] * column + error[1]
    window = np.s_[top : top + TILE[0], left : left + TILE[1]]
    empty = jump[window] < 0.1
    values = {
        "soc": soc[window] + rng.normal(0, NOISE, TILE),
        "soc_sigma": np.full(TILE, NOISE),
        "edge_energy_ev": soc[window],
        "edge_jump": jump[window],
        "status": np.where(empty, FitStatus.NO_EDGE, FitStatus.OK),
    }
    place = [(STEP[0] * (row - 1)) * PIXEL_UM, (STEP[1] * (column - 1)) * PIXEL_UM]
    said = {"raw_uid": f"tile{number}", "edge": "Ni_K", "final": True, "pixel_size_nm": 1000 * PIXEL_UM}
    said["mosaic"] = {"centre_um": place}
    return FULL_FIELD_SCHEMA.make(values, {**said, **about})


def test_tiles_are_found_to_lie_where_they_do_and_joined_with_their_sigma(scene, tmp_path):
    rng = np.random.default_rng(7)
    errors = [(0, 0), *rng.integers(-5, 6, (8, 2)).tolist()]
    tiles = [made_tile(scene, rng, number, error) for number, error in enumerate(errors)]
    whole = stitch_mosaic(tiles)
    assert not whole.attrs["warnings"]
    found = np.stack([whole["tile_moved_row_px"], whole["tile_moved_column_px"]], axis=1)
    np.testing.assert_allclose(found, errors, atol=0.1)
    assert (whole["tile_residual_px"].values < 0.1).all()
    assert whole["tile_neighbours"].values.tolist() == [2, 3, 2, 3, 4, 3, 2, 3, 2]
    # The mosaic lies on the truth, and its sigma holds, with less of it where tiles overlap.
    corner = 10 + np.min([np.array(STEP) * divmod(k, 3) + error for k, error in enumerate(errors)], axis=0)
    truth = scene[0][
        corner[0] : corner[0] + whole.sizes["row"], corner[1] : corner[1] + whole.sizes["column"]
    ]
    has = np.isfinite(whole["soc"].values)
    pull = ((whole["soc"].values - truth) / whole["soc_sigma"].values)[has]
    assert abs(pull.mean()) < 0.05
    assert pull.std() == pytest.approx(1.0, abs=0.05)
    count = whole["n_tiles"].values
    for n in (1, 2, 4):
        assert np.nanmedian(whole["soc_sigma"].values[count == n]) == pytest.approx(
            NOISE / np.sqrt(n), rel=0.01
        )
    np.testing.assert_allclose(np.diff(whole["row"].values), PIXEL_UM)
    assert whole["row"].values[0] == pytest.approx(-(STEP[0] + (TILE[0] - 1) / 2) * PIXEL_UM, abs=3)
    assert draw_mosaic(whole, tmp_path / "mosaic.png").stat().st_size > 20_000
    # A tile off in its energy axis is said; a wrong picture of one does not drag the others along.
    off = [tile.assign(soc=tile["soc"] + 0.1) if k == 4 else tile for k, tile in enumerate(tiles)]
    stepped = stitch_mosaic(off)
    (said,) = stepped.attrs["warnings"]
    assert "(run tile4) lies +0.1" in said or "(run tile4) lies +0.09" in said
    np.testing.assert_allclose(stepped["tile_step"].values, 0.1 * (np.arange(9) == 4), atol=0.01)
    noise = tiles[8].assign(edge_jump=(("row", "column"), rng.random(TILE)), status=tiles[8]["status"] * 0)
    alone = stitch_mosaic([*tiles[:8], noise])
    assert "(run tile8): no neighbour was found in the overlap" in alone.attrs["warnings"][0]
    np.testing.assert_allclose(alone["tile_moved_row_px"].values[:8], found[:8, 0], atol=0.3)
    assert alone["tile_moved_row_px"].values[8] == pytest.approx(0.0, abs=0.1)


def test_what_is_no_mosaic_is_one_sentence(scene):
    rng = np.random.default_rng(7)
    one, other = made_tile(scene, rng, 0, (0, 0)), made_tile(scene, rng, 1, (0, 0))
    apart = made_tile(scene, rng, 1, (0, 0), mosaic={"centre_um": [0.0, 500.0]})
    assert "No tiles overlap" in stitch_mosaic([one, apart]).attrs["warnings"][0]
    assert stitch_mosaic([one, one]).sizes["tile"] == 1
    of_four = {"n_tiles": 4, "number": 2, **one.attrs["mosaic"]}
    with_gaps = stitch_mosaic([one.assign_attrs(mosaic=of_four)]).attrs["warnings"][0]
    assert "Only 1 of 4 tiles are here (not those numbered 0, 1, 3 from 0)" in with_gaps
    by_view = {"mosaic": None, "field_of_view": {"row_um": -22.0, "column_um": 0.0}}
    assert stitch_mosaic([one, other.assign_attrs(by_view)]).sizes["tile"] == 2
    for tiles, said in (
        ([], "no tiles"),
        ([one.assign_attrs(mosaic=None)], "does not say where its field lies"),
        ([one.assign_attrs(pixel_size_nm=None)], "or its pixel size"),
        ([one, other.assign_attrs(edge="Mn_K")], "several edges"),
        ([one, other.isel(row=slice(0, 50))], "several sizes"),
        ([one, other.assign_attrs(pixel_size_nm=40.0)], "several pixel sizes"),
        ([one, other.assign_attrs(mosaic={"centre_um": [1e7, 1e7]})], "too large"),
        ([one.drop_vars("status")], "no maps to put together"),
    ):
        with pytest.raises(CallbackError, match=said):
            stitch_mosaic(tiles)
    with pytest.raises(NimcoError, match="--reach is a positive number"):
        mosaic(["abcdef"], reach=-1.0)


SHAPE = (48, 48)
GRID = EnergyGrid.from_regions([(8260, 8320, 20, 1.0), (8332, 8362, 1.5, 1.0), (8380, 8480, 25, 1.0)])


def plan_of(beamline, **changes):
    devices = (
        beamline.camera,
        beamline.energy,
        beamline.shutter,
        beamline.stage,
        beamline.fine_y,
        beamline.fine_x,
    )
    how = {
        # The motors go a tenth farther than they say along the rows, and less along the columns.
        "extent_um": (50.0, 50.0), "field_um": (32.0, 32.0), "overlap": 0.3, "um_per_unit": (1.1, 0.93),
        "grids": {"Ni_K": GRID}, "i0": beamline.i0, "n_darks": 1, "pixel_size_nm": beamline.pixel_size_nm,
        "md": {"sample": "large"}, **changes,
    }  # fmt: skip
    return xanes_mosaic(*devices, **how)


def test_a_plan_takes_tiles_of_a_sample_larger_than_the_field(tiled_server, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TILED_API_KEY", tiled_server.api_key)
    settings = TwinSettings(sample=SampleSettings(extent=2.0))
    beamline = SimBeamline(SHAPE, seed=2, settings=settings)
    planned = dry_run(plan_of(beamline))
    assert planned.n_runs == 4
    assert planned.frames["primary"] == 4 * len(GRID)
    with TwinSession(SHAPE, server=tiled_server) as twin:
        twin.beamline = beamline
        uids = twin.run(plan_of(beamline))
        starts = twin.collector.of("start")
    assert [start["mosaic"]["tile"] for start in starts] == [[0, 0], [0, 1], [1, 1], [1, 0]]
    assert [start["mosaic"]["number"] for start in starts] == [0, 1, 2, 3]
    assert {start["mosaic"]["n_tiles"] for start in starts} == {4}
    (group,) = {start["mosaic_group"] for start in starts}
    assert starts[1]["xanes"]["field_of_view"] == {"name": "tile 0,1", "row_um": -9.0, "column_um": 9.0}
    assert (beamline.fine_y.position, beamline.fine_x.position, beamline.stage.position) == (0.0, 0.0, "in")
    mosaic([group], tiled=tiled_server.uri, plot=tmp_path / "mosaic.png")
    said = capsys.readouterr().out
    assert f"mosaics/{group}/Ni_K" in said
    assert (tmp_path / "mosaic.png").stat().st_size > 20_000
    whole = open_soc(tiled_server.client()["mosaics"], group)
    assert whole.attrs["raw_uids"] == list(uids)
    pixel_um = beamline.pixel_size_nm / 1000
    moved = np.array([whole["tile_moved_row_px"], whole["tile_moved_column_px"]]).T
    centres = np.array([start["mosaic"]["centre_um"] for start in starts])
    expected = centres * (1 / np.array([1.1, 0.93]) - 1) / pixel_um
    np.testing.assert_allclose(moved - moved[0], expected - expected[0], atol=0.6)
    # Against the whole of the twin's sample, wherever the first tile lies on it.
    truth = beamline.truth("Ni_K", whole=True)
    padded = np.full(truth.jump.shape, np.nan)
    size = whole.sizes["row"], whole.sizes["column"]
    padded[: size[0], : size[1]] = whole["edge_jump"].fillna(0.0).values
    place = match_maps(truth.jump, padded, expected_px=(8.0, 8.0), reach_px=24.0)
    assert place.correlation > 0.95
    row, column = (round(part) for part in place.offset_px)
    true_ev = truth.edge_energy_ev[row : row + size[0], column : column + size[1]]
    compared = np.isfinite(whole["edge_energy_ev"].values) & (whole["edge_jump"].values > 0.3)
    assert compared.sum() > 0.3 * SHAPE[0] * SHAPE[1]
    error = (whole["edge_energy_ev"].values - true_ev)[compared]
    assert abs(np.nanmedian(error)) < 0.15
    assert np.nanmedian(abs(error)) < 0.3


def test_a_mosaic_that_cannot_be_is_refused_before_anything_moves():
    beamline = SimBeamline((8, 8))
    for changes, said in (
        ({"extent_um": (2000.0, 50.0)}, r"fine_y cannot (be|go)"),
        ({"um_per_unit": (0.0, 1.0)}, "not 0"),
        ({"centre": (1.0,)}, "is two numbers"),
        ({"overlap": 2.0}, "overlap by a share"),
        ({"edges": ["Xx_K"]}, "Xx_K"),
        ({"i0": beamline.fine_x}, "is given as"),
    ):
        run_engine, seen = RunEngine({}), []
        run_engine.msg_hook = seen.append
        with pytest.raises(PlanError, match=said):
            run_engine(plan_of(beamline, **changes))
        assert not [msg for msg in seen if msg.command in ("set", "trigger", "open_run")]
