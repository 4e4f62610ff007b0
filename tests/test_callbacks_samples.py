"""Many results as samples: pooled and compared, from a real Tiled server."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from callbacks import (
    FULL_FIELD_SCHEMA,
    CallbackError,
    LiveSOC,
    RawRunWriter,
    SOCPublisher,
    compare_samples,
    compare_with_bulk,
    draw_bulk,
    follow_series,
    mean_spectrum,
    open_soc,
    open_soc_group,
    series_table,
    stored_fields,
)
from edge_fitting import EdgeFittingError, FitStatus, MapField, ReferenceSeries, pool_maps
from nimco._commands import compare, series
from nimco.errors import NimcoError

# Of a sample made by lot: mean, spread of fields, of particles in a field, of pixels in a particle, noise of a pixel.
MEAN, FIELDS, PARTICLES, WITHIN, NOISE = 0.45, 0.05, 0.10, 0.04, 0.05
SIDE, PITCH = 10, 16
# Of the stored runs: state of charge by cycle, what each particle of a field has beyond it, and by how many pixels the
# sample is displaced in the second cycle.
OF_CYCLE = {1.0: 0.35, 50.0: 0.60}
MOVED = (2, -1)
OF_PARTICLE = np.array([-0.06, -0.03, 0.0, 0.0, 0.03, 0.06])


def square(number, columns):
    row, column = (PITCH * place + (PITCH - SIDE) // 2 for place in divmod(number, columns))
    return slice(row, row + SIDE), slice(column, column + SIDE)


def made_field(rng):
    """Return a map of nine square particles."""
    values, labels = np.full((3 * PITCH, 3 * PITCH), np.nan), np.zeros((3 * PITCH, 3 * PITCH), int)
    middle = MEAN + rng.normal(0, FIELDS)
    for number in range(9):
        place = square(number, 3)
        labels[place] = number + 1
        pixels = rng.normal(0, np.hypot(WITHIN, NOISE), (SIDE, SIDE))
        values[place] = middle + rng.normal(0, PARTICLES) + pixels
    return MapField(values, np.full(values.shape, NOISE), labels)


def test_spreads_and_mean_of_fields_made_by_lot_are_found_within_their_errors():
    rng = np.random.default_rng(8)
    samples = [pool_maps([made_field(rng) for _ in range(6)]) for _ in range(24)]

    def of(name):
        return np.array([getattr(sample, name) for sample in samples])

    assert np.mean(((of("mean") - MEAN) / of("mean_sigma")) ** 2) == pytest.approx(1.0, abs=0.75)
    for name, truth in (("within", WITHIN), ("between_particles", PARTICLES), ("between_fields", FIELDS)):
        # Of the square, which has no bias.
        assert np.sqrt(np.mean(of(name) ** 2)) == pytest.approx(truth, rel=0.25), name
        assert np.mean(of(f"{name}_sigma")) == pytest.approx(np.std(of(name)), rel=0.6), name
    total = np.sqrt(FIELDS**2 + PARTICLES**2 + WITHIN**2 + NOISE**2)
    assert np.mean(of("fwhm")) == pytest.approx(2.355 * total, rel=0.15)
    assert np.mean(((of("peak") - MEAN) / of("peak_sigma")) ** 2) == pytest.approx(1.0, abs=0.8)
    assert set(of("errors_from")) == {"fields"}
    assert samples[0].field_mean.shape == (6,)
    few = pool_maps([made_field(rng) for _ in range(2)])
    assert (few.errors_from, few.n_fields, few.n_particles) == ("particles", 2, 18)
    one = made_field(rng)
    alone = pool_maps([MapField(one.values, one.sigma, (np.asarray(one.labels) == 5).astype(int))])
    assert alone.errors_from == "none"
    assert np.isnan([alone.peak_sigma, alone.between_particles, alone.between_fields]).all()
    for fields in ([], [MapField(one.values, one.sigma, np.zeros_like(one.labels))]):
        with pytest.raises(EdgeFittingError, match=r"at least one field|no field has a particle"):
            pool_maps(fields)


@pytest.fixture(scope="module")
def stored(tiled_server, scan_documents):
    """Uids of the runs of a sample, two fields a cycle, by cycle."""
    rng = np.random.default_rng(5)
    runs = []
    for cycle, state in OF_CYCLE.items():
        for field in range(2):
            scan = scan_documents((2 * PITCH, 3 * PITCH), n_energies=22, noise=True, seed=len(runs))
            scan.jump = np.zeros(scan.shape)
            scan.soc = np.zeros(scan.shape)
            for number, more in enumerate(OF_PARTICLE):
                scan.jump[square(number, 3)] = 0.8
                scan.soc[square(number, 3)] = state + more + rng.normal(0, 0.002)
            if cycle > 1:
                scan.jump, scan.soc = (np.roll(values, MOVED, (0, 1)) for values in (scan.jump, scan.soc))
            sample = {"name": "pouch 7", "cycle": cycle}
            runs.append(scan.run(sample=sample, field_of_view=f"field {field}", series_group="of-pouch-7"))
    with (
        RawRunWriter(tiled_server.raw) as writer,
        SOCPublisher(tiled_server.maps, raw_container=tiled_server.raw) as publisher,
        LiveSOC(subscribers=[publisher]) as live,
    ):
        for documents in runs:
            for document in documents:
                writer(*document)
                live(*document)
        for worker in (writer, live, publisher):
            worker.wait(240)
    uids = [documents[0][1]["uid"] for documents in runs]
    return dict(zip(OF_CYCLE, (uids[:2], uids[2:]), strict=True))


def test_cycles_of_a_sample_are_pooled_and_compared_by_the_command(
    stored, tiled_server, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("TILED_API_KEY", tiled_server.api_key)
    at = {"tiled": tiled_server.uri}
    table, picture = tmp_path / "made" / "cycles.csv", tmp_path / "cycles.png"
    compare(sample=["pouch 7"], by=["cycle"], plot=picture, table=table, soc_range="0,1", **at)
    rows = pd.read_csv(table)
    assert rows["cycle"].tolist() == list(OF_CYCLE)
    assert rows["fields"].tolist() == [2, 2]
    assert rows["particles"].tolist() == [12, 12]
    for row, state in zip(rows.itertuples(), OF_CYCLE.values(), strict=True):
        assert abs(row.mean - state) < 3 * row.mean_sigma + 0.01
        assert row.between_particles == pytest.approx(np.std(OF_PARTICLE, ddof=1), rel=0.3)
        assert row.between_fields < 0.02
        assert row.within < 0.02
        assert row.runs.split() == [uid[:8] for uid in stored[row.cycle]]
    assert rows["shift"][1] == pytest.approx(0.25, abs=0.02)
    assert 0 < rows["shift_sigma"][1] < 0.03
    said = capsys.readouterr().out
    assert "State of charge at Ni K, compared" in said
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 20_000
    # The same by what ties the runs, and by uids; the edge energy has a scale of its own.
    client = tiled_server.client()
    held = list(stored_fields(client, ["of-pouch-7"]))
    tied = compare_samples(held, ["sample", "cycle"])
    assert [group.name for group in tied.groups] == ["pouch 7, 1", "pouch 7, 50"]
    np.testing.assert_allclose([group.pooled.mean for group in tied.groups], rows["mean"], rtol=1e-6)
    energies = compare_samples(held, ["cycle"], quantity="edge_energy_ev")
    assert energies.groups[1].pooled.mean - energies.groups[0].pooled.mean == pytest.approx(0.5, abs=0.05)
    some = stored_fields(client, [uid[:9] for uid in reversed(stored[1.0])], edge="Ni")
    fields = compare_samples(some, ["field"])
    assert [group.name for group in fields.groups] == ["field 0", "field 1"]
    assert not fields.warnings
    # On one grid lie those of one field only.
    group = open_soc_group(client, "of-pouch-7")
    assert group["on_grid"].values.tolist() == [True, False, True, False]
    assert group["grid_shift_px"].values[2] == pytest.approx(MOVED, abs=0.2)
    assert any("its field of view is 'field 1'" in warning for warning in group.attrs["warnings"])


def test_what_cannot_be_compared_is_one_sentence(stored, tiled_server, tmp_path, monkeypatch):
    monkeypatch.setenv("TILED_API_KEY", tiled_server.api_key)
    at = {"tiled": tiled_server.uri}
    for options, said in (
        ({}, "Say what to compare"),
        ({"sample": ["none of that"]}, r"no run of a sample 'none of that' .* md="),
        ({"runs": ["zzzzzz"]}, r"no run, scan_group, .* or mosaic_group zzzzzz"),
        ({"runs": ["zz"]}, r"no run, scan_group, .* or mosaic_group zz"),
        ({"runs": ["of-pouch-7"], "by": ["voltage_v"]}, "does not say its voltage v; group by something"),
        ({"runs": ["of-pouch-7"], "by": ["colour"]}, "not grouped by 'colour'; choose of sample"),
        ({"runs": ["of-pouch-7"], "edge": "Mn"}, "no maps at Mn_K, only at Ni_K"),
        ({"runs": [stored[1.0][0]], "table": tmp_path / "x" / "y"}, "cannot write"),
        ({"runs": ["of-pouch-7"], "soc_range": "1,0"}, "--soc-range must rise"),
    ):
        (tmp_path / "x").write_text("a file")
        with pytest.raises((NimcoError, CallbackError), match=said):
            compare(**options, **at)
    client = tiled_server.client()
    one, other = (open_soc(client, stored[cycle][0]) for cycle in OF_CYCLE)
    warned = compare_samples([one, other.assign_attrs(references={}, final=False)], ["run"]).warnings
    assert "different references" in warned[0]
    assert f"Not final yet: {stored[50.0][0][:8]}" in warned[1]
    with pytest.raises(CallbackError, match="several edges"):
        compare_samples([one, other.assign_attrs(edge="Mn_K")], ["run"])
    with pytest.raises(CallbackError, match="no map of state of charge"):
        compare_samples([one.drop_vars("status")], ["run"])
    with pytest.raises(CallbackError, match="some an edge energy only"):
        compare_samples(
            [
                one.assign(soc=one["soc"] * np.nan),
                other.assign(edge_energy_ev=other["edge_energy_ev"] * np.nan),
            ],
            ["run"],
        )


def test_particles_and_regions_are_followed_through_the_maps_of_each_place(
    stored, tiled_server, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("TILED_API_KEY", tiled_server.api_key)
    client = tiled_server.client()
    rows, columns = square(4, 3)
    corners = [[rows.start, columns.start], [rows.stop - 1, columns.stop - 1]]
    lines = [
        {"id": "a1", "name": "upper half", "kind": "rectangle", "points": json.dumps(corners)},
        {"id": "b2", "name": "beside", "kind": "rectangle", "points": "[[900, 900], [901, 901]]"},
        {"id": "c3", "name": "removed", "kind": "rectangle", "points": json.dumps(corners)},
    ]
    table = pd.DataFrame([{**line, "changed_s": 1.0, "deleted": int(line["id"] == "c3")} for line in lines])
    client["maps"][stored[1.0][0]].write_table(table, key="Ni_K@regions")
    picture, path = tmp_path / "series.png", tmp_path / "series.csv"
    series(["of-pouch-7"], tiled=tiled_server.uri, plot=picture, table=path, soc_range="0,1")
    said = capsys.readouterr().out
    assert "beside: no pixel of the rectangle is inside" in said
    assert "Ni K, place field 1" in said
    assert "series/of-pouch-7-field-0/Ni_K" in said
    assert picture.stat().st_size > 20_000
    found = pd.read_csv(path)
    assert set(found["place"]) == {"field 0", "field 1"}
    tracks = found[found["what"].str.startswith("particle")]
    assert len(tracks) == 2 * 2 * len(OF_PARTICLE)
    for (cycle, what), track in tracks.groupby(["cycle", "what"]):
        truth = OF_CYCLE[cycle] + OF_PARTICLE[int(what.split()[1]) - 1]
        assert (abs(track["value"] - truth) < 3 * track["sigma"] + 0.01).all(), what
    assert (tracks["pixels"] == SIDE * SIDE).all()
    region = found[found["what"] == "upper half"]
    same = tracks[(tracks["what"] == "particle 5") & (tracks["place"] == "field 0")]
    np.testing.assert_allclose(region["value"], same["value"], rtol=1e-6)
    assert set(found["what"]) - set(tracks["what"]) == {"map", "upper half"}
    # The stack in Tiled: the second map lies on the first, and made again it is version 2.
    stack = open_soc(client["series"], "of-pouch-7-field-0")
    assert stack["soc"].dims == ("step", "row", "column")
    assert stack.attrs["raw_uids"] == [stored[cycle][0] for cycle in OF_CYCLE]
    np.testing.assert_allclose(stack["step_shift_row_px"], [0, MOVED[0]], atol=0.3)
    np.testing.assert_allclose(stack["step_shift_column_px"], [0, MOVED[1]], atol=0.3)
    steps = stack["soc"].values[:, rows, columns].mean(axis=(1, 2))
    np.testing.assert_allclose(steps[1] - steps[0], OF_CYCLE[50.0] - OF_CYCLE[1.0], atol=0.02)
    assert not stack.attrs["warnings"]
    np.testing.assert_allclose(
        series_table(stack)["value"], found[found["place"] == "field 0"]["value"], rtol=1e-5
    )
    # With the charge that has passed, on a clock that is 50 s behind.
    times = found[(found["place"] == "field 0") & (found["what"] == "map")]["time_s"].to_numpy()
    cycler = tmp_path / "cell.csv"
    ah = [0.0, 0.0, 2.5e-4, 2.5e-4]
    when = [times[0] - 90, times[0] - 50, times[1] - 50, times[1] + 90]
    lines = [f"{time:.6f},{charge:.6f},3.9" for time, charge in zip(when, ah, strict=True)]
    cycler.write_text("\n".join(["Unix Time / s,Net Capacity / Ah,Voltage / V", *lines]))
    uids = [stored[cycle][0] for cycle in OF_CYCLE]
    how = {"cycler": cycler, "clock_offset": 50.0, "publish": False, "tiled": tiled_server.uri, "table": path}
    series(uids, capacity_mah=1.0, initial_soc=0.40, charge_plot=tmp_path / "charge.png", **how)
    said = capsys.readouterr().out
    assert "charge passed (mAh, column of net charge): 0.000, 0.250" in said
    assert "coulomb count less maps: +0.05" in said
    assert (tmp_path / "charge.png").stat().st_size > 10_000
    with_charge = pd.read_csv(path)
    whole = with_charge[with_charge["what"] == "map"]
    np.testing.assert_allclose(whole["calibrated"], [0.40, 0.65], atol=0.02)
    assert (whole["calibrated_sigma"] > 0.01).all()  # six particles are a small part of a cell
    for wrong, problem in (
        ({"clock_offset": 7200.0}, "do not overlap; give the offset of the clocks"),
        ({"cycler": tmp_path / "none.csv"}, "there is no file"),
        ({"cycler": picture}, "is no text; export it as text"),
        ({"cycler": None, "capacity_mah": 1.0}, "need a file of a cycler"),
        ({"cycler_start": "yesterday"}, "is a date and time such as"),
        ({"capacity_mah": -1.0}, "a capacity is a positive number"),
    ):
        with pytest.raises((NimcoError, CallbackError), match=problem):
            series(uids[:1], **{**how, **wrong})
    # Another place, and one of another size.
    one, other = (open_soc(client, uid) for uid in (stored[1.0][0], stored[50.0][0]))
    stripes = other["edge_jump"] * 0 + np.arange(other.sizes["row"])[:, None] % 2 + 0.1
    elsewhere = other.assign(edge_jump=stripes.fillna(0.5), status=other["status"] * 0)
    (left,) = follow_series(
        [one, elsewhere.assign_attrs(field_of_view={"name": "field 0"}, references={}, grid=None)]
    )
    assert "does not show the place of the first one" in left.attrs["warnings"][0]
    assert "differ in their references" in left.attrs["warnings"][1]
    with pytest.raises(CallbackError, match="a series is of one size"):
        follow_series([one, other.isel(row=slice(0, 20))])
    with pytest.raises(CallbackError, match="no maps to follow"):
        follow_series([])
    with pytest.raises(NimcoError, match="Say what to follow"):
        series([])


def test_the_mean_spectrum_of_maps_stands_beside_that_of_the_whole_sample(
    tmp_path, capsys, stored, tiled_server, monkeypatch
):
    def absorption(energy, at):
        rise = 0.5 + np.arctan((energy - at) / 1.5) / np.pi
        line = 0.6 * np.exp(-0.5 * ((energy - at - 5.0) / 2.0) ** 2)
        return rise + line

    energy = np.concatenate(
        [np.arange(8220.0, 8330, 10), np.arange(8330.0, 8365, 0.7), np.arange(8365.0, 8500, 12)]
    )
    rng = np.random.default_rng(2)
    maps = []
    for number, (at, n_pixels) in enumerate(((8344.2, 300), (8344.8, 100))):
        # Spectra of maps lie on a slope of their own and are thicker; energies may come in any order.
        depth = 1.3 + 0.8 * absorption(energy, at) - 2e-4 * (energy - 8340) + rng.normal(0, 2e-4, energy.size)
        status = np.full((20, 20), FitStatus.NO_EDGE, np.uint8)
        status.flat[:n_pixels] = FitStatus.OK
        values = {
            "energy_ev": energy[::-1],
            "mean_optical_depth": depth[::-1],
            "status": status,
            "soc": np.where(status == FitStatus.OK, 0.5, np.nan),
            "edge_energy_ev": np.where(status == FitStatus.OK, 8344.0, np.nan),
        }
        maps.append(
            mean_spectrum(FULL_FIELD_SCHEMA.make(values, {"raw_uid": f"run-{number}", "edge": "Ni_K"}))
        )
    fine = np.arange(8240.0, 8480.0, 0.25)
    found = compare_with_bulk(maps, fine, 7.0 * absorption(fine, 8344.0) + 0.003 * fine, name="pellet")
    of_map, of_bulk = found.edges["half_jump"]
    assert of_map.value_ev - of_bulk.value_ev == pytest.approx(0.35, abs=0.06)  # by their pixels
    assert 0 < found.rms < 0.08
    assert "pellet does not cover" in found.warnings[0]
    assert "difference +0.3" in found.sentences()[0]
    assert draw_bulk(found, tmp_path / "bulk.png").stat().st_size > 10_000
    alone = compare_with_bulk(maps[:1], energy, absorption(energy, 8344.2))
    assert alone.rms < 0.004
    for problem, arguments in (
        ("too little in common", (maps, fine - 500.0, fine)),
        ("cannot be normalised", (maps, fine, np.ones_like(fine))),
        ("at one edge, not none", ([], fine, fine)),
    ):
        with pytest.raises(CallbackError, match=problem):
            compare_with_bulk(*arguments)
    monkeypatch.setenv("TILED_API_KEY", tiled_server.api_key)
    path = tmp_path / "pellet.dat"
    np.savetxt(path, np.column_stack([fine, absorption(fine, 8344.0)]))
    result = open_soc(tiled_server.client(), stored[1.0][0])
    series_of = ReferenceSeries.from_dict(result.attrs["references"])
    energies = np.sort(result["energy_ev"].values)
    np.savetxt(path, np.column_stack([energies, np.ravel(series_of.evaluate(energies, 0.45))]))
    picture = tmp_path / "beside.png"
    compare(stored[1.0], by=["cycle"], bulk=str(path), bulk_plot=picture, tiled=tiled_server.uri)
    said = capsys.readouterr().out
    assert "1, mean spectrum of 2 map(s) beside pellet:" in said
    soc = re.search(r"maps (0\.\d+), bulk (0\.\d+), difference -0\.\d+", said)
    assert float(soc[1]) == pytest.approx(0.35, abs=0.02)
    assert float(soc[2]) == pytest.approx(0.45, abs=0.01)
    assert picture.stat().st_size > 10_000
    with pytest.raises(CallbackError, match="has no mean spectrum"):
        mean_spectrum(result.drop_vars("mean_optical_depth"))
    for wrong, problem in (
        ("nowhere.dat", "is no file, and no run"),
        (stored[1.0][0], "is a run without a spectrum"),
    ):
        with pytest.raises(NimcoError, match=problem):
            compare(stored[1.0], by=["cycle"], bulk=wrong, tiled=tiled_server.uri)
    with pytest.raises(NimcoError, match="needs the spectrum of the whole sample"):
        compare([stored[1.0][0]], bulk_plot=path, tiled=tiled_server.uri)
