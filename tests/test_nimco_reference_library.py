"""The reference library on a real Tiled server."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from bluesky import RunEngine
from tiled.client.array import ArrayClient
from tiled.client.metadata_update import DELETE_KEY
from typer.testing import CliRunner

from beamline_plans import EnergyGrid, xanes_scan
from callbacks import RawRunWriter, open_soc
from edge_fitting import EdgeFittingError, ReferenceSeries, calibrate_foil
from nimco import ReferenceCalibration, ReferenceLibrary, measure_standards
from nimco._cli import build_app
from nimco._reference_options import parse_reference_option, reference_series
from nimco.errors import NimcoError, ReferenceFileError, ReferenceLibraryError
from scan_contract import read_contract
from sim_devices import SimBeamline

ENERGY_EV = np.arange(8240.0, 8520.0, 1.0)
NI_FOIL = ReferenceCalibration("Ni", shift_ev=-0.4)


def spectrum(soc: float, energy_ev: np.ndarray = ENERGY_EV, edge_ev: float = 8343.0) -> np.ndarray:
    centre = edge_ev + 2.0 * soc
    step = 0.5 + np.arctan((energy_ev - centre) / 1.6) / np.pi
    return 0.1 + 1.3 * (step + 0.7 * np.exp(-(((energy_ev - centre - 6) / 4) ** 2)))


@pytest.fixture
def root(tiled_server: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A container that stands for the root of a server, so that each test has a library of its own."""
    server = tiled_server.client()
    name = f"library of {request.node.name.split('[')[0]} {id(request)}"
    yield server.create_container(name)
    # The server is shared: others look at what is in it.
    server.delete_contents(name, recursive=True, external_only=False)


@pytest.fixture
def library(root: Any) -> ReferenceLibrary:
    return ReferenceLibrary(root)


def add(library: ReferenceLibrary, name: str, soc: float | None = 0.0, **changes: Any) -> Any:
    said: dict[str, Any] = {
        "energy_ev": ENERGY_EV,
        "mu": spectrum(soc or 0.0),
        "edge": "Ni_K",
        "composition": "NMC622",
        "calibration": NI_FOIL,
        "soc": soc,
        "source": f"{name}.xdi",
    } | changes
    return library.add(name, **said)


def test_what_is_found_is_what_was_added_and_no_version_is_overwritten(library: ReferenceLibrary) -> None:
    rng = np.random.default_rng(1)
    # In any order, with numbers that no text keeps.
    energies = rng.permutation(ENERGY_EV + rng.uniform(-0.3, 0.3, ENERGY_EV.size))
    first = spectrum(0.2, energies) * np.pi
    foil = ReferenceCalibration("Ni", "half height of the foil's step", -0.123456789, 8337.1)
    kept = add(
        library, "charged (A), 0.5", 0.2, energy_ev=energies, mu=first, valence=3.3, calibration=foil
    )  # fmt: skip
    second = add(library, kept.name, 0.3)
    assert (kept.version, second.version) == (1, 2)
    (found,) = library.find(edge="ni", composition="nmc 622")
    assert (found.label, found.soc, found.source) == (second.label, 0.3, f"{kept.name}.xdi")
    assert found.calibration == ReferenceCalibration("Ni", shift_ev=-0.4, foil_energy_ev=8333.0)
    one, two = library.versions(kept.name)
    assert two == found
    assert np.array_equal(one.energy_ev, energies)
    assert np.array_equal(one.mu, first)
    assert (one.soc, one.valence, one.calibration, one.composition) == (0.2, 3.3, foil, "NMC622")
    assert np.array_equal(library.get(f"{kept.name}@1").mu, first)
    assert np.array_equal(library.get(kept.name, 2).energy_ev, ENERGY_EV)


def test_found_by_edge_and_composition(library: ReferenceLibrary) -> None:
    assert library.find() == []
    add(library, "b", 1.0, composition="LiNi0.6Mn0.2Co0.2O2")
    add(library, "a", 0.0, composition="Li1.0 Ni0.6 Co0.2 Mn0.2 O2")
    add(library, "NiO", None, valence=2, composition="NiO")
    co_ev = ENERGY_EV - 624.0
    add(library, "co", 0.0, edge="Co", energy_ev=co_ev, mu=spectrum(0.0, co_ev, 7719.0), composition="NMC622")
    assert [entry.name for entry in library.find(edge="Ni", composition="LiNi.6Co.2Mn.2O2")] == ["a", "b"]
    assert [entry.name for entry in library.find(edge="Co K")] == ["co"]
    assert [entry.name for entry in library.find(composition="nio")] == ["NiO"]
    assert library.find(composition="Ni2O3") == []
    assert [entry.name for entry in library.find()] == ["co", "a", "b", "NiO"]


def test_a_series_names_entries_and_versions(library: ReferenceLibrary) -> None:
    add(library, "old", 0.9)
    add(library, "charged", 0.9)
    add(library, "charged", 1.0)
    add(library, "discharged", 0.0)
    add(library, "oxide", None, valence=2)
    series = library.series("charged", "discharged", edge="Ni")
    assert np.array_equal(series.energy_ev, ENERGY_EV)
    plain = ReferenceSeries(ENERGY_EV, [spectrum(0.0), spectrum(1.0)], [0.0, 1.0])
    np.testing.assert_allclose(series.mu, plain.mu, rtol=0, atol=1e-12)
    named = [(source["name"], source["version"], source["source"]) for source in series.sources]
    assert named == [
        ("discharged", "1", "library:discharged@1"), ("charged", "2", "library:charged@2"),
    ]  # fmt: skip
    assert series.sources[1]["foil"] == "Ni"
    assert series.sources[1]["shift_ev"] == -0.4
    assert series.sources[1]["from"] == "charged.xdi"
    assert ReferenceSeries.from_dict(series.to_dict()).sources == series.sources
    assert len(library.series("charged@1", library.get("charged"))) == 2
    # All that have a state of charge, by composition.
    assert library.series(edge="Ni", composition="NMC622").soc.tolist() == [0.0, 0.9, 1.0]


def test_writers_at_the_same_time_lose_no_version(root: Any) -> None:
    errors: list[BaseException] = []
    start = threading.Barrier(4)

    def write(number: int) -> None:
        try:
            library = ReferenceLibrary(root)
            start.wait(60)
            for turn in range(3):
                add(library, "same", number + turn / 10)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    assert errors == []
    found = ReferenceLibrary(root).versions("same")
    assert [entry.version for entry in found] == list(range(1, 13))
    assert sorted(entry.soc for entry in found) == sorted(n + t / 10 for n in range(4) for t in range(3))
    for entry in found:
        assert np.array_equal(entry.mu, spectrum(entry.soc))


@pytest.mark.parametrize("moment", ["before the spectrum", "after the spectrum"])
def test_what_was_cut_short_never_stands_for_the_name(
    library: ReferenceLibrary, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    add(library, "charged", 0.8)

    def broken(*_: Any, **__: Any) -> None:
        raise httpx.ConnectError("the server is gone")

    method = "write" if moment == "before the spectrum" else "update_metadata"
    with monkeypatch.context() as patch:
        patch.setattr(ArrayClient, method, broken)
        with pytest.raises(
            ReferenceLibraryError, match=r"charged .*\(the server is gone\); nothing of it counts"
        ):
            add(library, "charged", 0.9)
    assert library.get("charged").soc == 0.8
    assert [entry.version for entry in library.versions("charged")] == [1]
    assert add(library, "charged", 1.0).version == 3
    assert library.get("charged").soc == 1.0


def test_damage_is_said_and_does_not_spread(
    library: ReferenceLibrary, root: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("sound", "changed", "lost", "gone"):
        add(library, name, 0.1)
        add(library, name, 0.2)
    held = root["references"]
    held["changed@2"].write(np.zeros((2, ENERGY_EV.size)))
    held["lost@2"].update_metadata({"composition": DELETE_KEY, "name": DELETE_KEY})
    held["gone@2"].update_metadata({"n_energies": 3})
    add(library, "other", 0.9)
    assert [entry.name for entry in library.find()] == ["changed", "gone", "sound", "other"]
    assert "lost@2 of the reference library is damaged" in caplog.text
    for name, words in (
        ("changed", "library:changed@2 is not what was added"),
        ("gone", "library:gone@2 is not what was added"),
        ("lost", "lost@2 of the reference library is damaged"),
    ):
        with pytest.raises(ReferenceLibraryError, match=words):
            library.series(name, "other")
        # The version before is there for who asks for it.
        assert library.series(f"{name}@1", "other").sources[0]["version"] == "1"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"calibration": None}, "is no energy calibration"),
        ({"calibration": ReferenceCalibration("")}, "names no foil"),
        ({"calibration": ReferenceCalibration("Ni", shift_ev=np.nan)}, "shift of the calibration is nan"),
        ({"edge": "Co"}, "no scan across the Co_K edge"),
        ({"energy_ev": ENERGY_EV / 1000}, "check the edge, and the unit"),
        ({"energy_ev": ENERGY_EV[ENERGY_EV > 8400], "mu": spectrum(0)[ENERGY_EV > 8400]}, "no scan across"),
        ({"mu": spectrum(0)[:-1]}, "same length"),
        ({"mu": np.where(ENERGY_EV == 8300, np.nan, spectrum(0))}, "not finite"),
        ({"mu": np.zeros(ENERGY_EV.size)}, "is no reference spectrum"),
        ({"mu": ["a"] * ENERGY_EV.size}, "must be numbers"),
        ({"composition": " "}, "has no composition"),
        ({"soc": None}, "has no state"),
        ({"valence": "full"}, "valence of good is 'full'"),
    ],
)
def test_what_cannot_be_is_refused_before_it_is_written(
    library: ReferenceLibrary, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises((ReferenceLibraryError, EdgeFittingError), match=words):
        add(library, "good", **changes)
    assert library.find() == []


@pytest.mark.parametrize("name", ["", " a", "a/b", "a@2", "a=1", "a:b", "..", "a\nb", 3])
def test_a_name_is_one_that_can_be_typed(library: ReferenceLibrary, name: Any) -> None:
    with pytest.raises(ReferenceLibraryError, match="cannot be the name"):
        add(library, name)


def test_what_does_not_go_together_is_refused(library: ReferenceLibrary, root: Any) -> None:
    co_ev = ENERGY_EV - 624.0
    add(library, "a", 0.0)
    add(library, "b", 1.0)
    add(library, "same", 1.0)
    add(library, "oxide", None, valence=2)
    add(library, "co", 0.5, edge="Co", energy_ev=co_ev, mu=spectrum(0.5, co_ev, 7719.0))
    add(library, "other foil", 0.5, calibration=ReferenceCalibration("Ni", foil_energy_ev=8331.49))
    add(library, "other point", 0.5, calibration=ReferenceCalibration("Ni", "half height of the step"))
    add(library, "foreign", 0.5)
    root["references"]["foreign@1"].update_metadata({"calibration": None})
    for names, options, words in (
        (("a", "nothing"), {}, "there is no 'nothing' in the reference library; it has co, a, "),
        (("a", "b@3"), {}, "no version 3 of 'b' in the reference library, only 1"),
        (("a", "b@x"), {}, "names no version"),
        (("a", "b"), {"edge": "Co"}, "library:a@1 is a spectrum of the Ni_K edge, not of Co_K"),
        (("a", "co"), {}, "library:a@1 is a spectrum of the Ni_K edge and library:co@1 of Co_K"),
        (("a", "oxide"), {}, "library:oxide@1 has a valence of 2 and no state of charge"),
        (("a", "foreign"), {}, "axis of library:foreign@1 is not calibrated"),
        (("a", "other foil"), {}, "different conventions .8333 and 8331.49 eV"),
        (("a", "other point"), {}, "different conventions .'first inflection"),
        (("a",), {}, "two spectra or more"),
        ((), {"composition": "NMC811"}, "has 0 of NMC811 at any edge"),
    ):
        with pytest.raises(ReferenceLibraryError, match=words):
            library.series(*names, **options)
    with pytest.raises(
        ReferenceFileError, match="library:b@1 and library:same@1 have the same state of charge"
    ):
        library.series("a", "b", "same")


def test_a_server_that_is_gone_is_said() -> None:
    class Gone:
        uri = "http://127.0.0.1:9"

        def __contains__(self, _: str) -> bool:
            raise httpx.ConnectError("refused")

    for ask in (ReferenceLibrary(Gone()).find, lambda: add(ReferenceLibrary(Gone()), "a")):
        with pytest.raises(ReferenceLibraryError, match="refused"):
            ask()


def test_the_option_takes_files_and_entries(library: ReferenceLibrary, tmp_path: Path) -> None:
    add(library, "charged", 1.0)
    add(library, "charged", 1.1)
    path = tmp_path / "discharged.txt"
    np.savetxt(path, np.column_stack([ENERGY_EV, spectrum(0.0)]))
    options = [parse_reference_option(text) for text in ("library:charged@1=0.8", f"{path}=0")]
    series, notes = reference_series(options, library=lambda: library, edge="Ni_K")
    assert series.soc.tolist() == [0.0, 0.8]
    assert [source["source"] for source in series.sources] == ["discharged.txt", "library:charged@1"]
    assert "library:charged@1: SOC 0.8, Ni_K, NMC622" in notes
    with pytest.raises(NimcoError, match="name the server with --tiled"):
        reference_series(options)
    with pytest.raises(ReferenceLibraryError, match="not of Mn_K"):
        reference_series(options, library=lambda: library, edge="Mn")
    with pytest.raises(ReferenceFileError, match="beside entries of the library, for every file"):
        reference_series([options[0], parse_reference_option(str(path))], library=lambda: library)


def test_standards_go_into_the_library_as_measured_on_the_calibrated_axis(
    library: ReferenceLibrary, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    beamline, run_engine = SimBeamline((32, 32), seed=2), RunEngine()
    fine = np.arange(8283.0, 8400.0, 0.5)
    step = 0.35 * np.arctan((fine - 8331.5) / 1.4) / np.pi + 0.65 / (1 + np.exp(-(fine - 8343.5) / 1.8))
    foil = calibrate_foil(fine, step, edge="Ni")
    energies = (8250.0, 8290.0, 8325.0, 8335.0, 8340.0, 8345.0, 8350.0, 8360.0, 8400.0, 8450.0, 8500.0)
    grid = EnergyGrid(energies, (0.5,) * len(energies))
    said: dict[str, Any] = {"socs": (0.0, 1.0), "grid": grid, "library": library}
    for missing in ({}, {"composition": "NMC622"}, {"calibration": foil}):
        with pytest.raises(ReferenceLibraryError, match=r"with composition= and calibration=; the"):
            measure_standards(run_engine, beamline, "Ni", **said, **missing)
    starts: list[dict[str, Any]] = []
    run_engine.subscribe(lambda _, doc: starts.append(doc), "start")
    series = measure_standards(run_engine, beamline, "Ni", **said, composition="NMC622", calibration=foil)
    found = library.find(edge="Ni", composition="NMC622")
    assert [entry.soc for entry in found] == [0.0, 1.0]
    assert [entry.source for entry in found] == [start["uid"] for start in starts]
    for entry, source in zip(found, series.sources, strict=True):
        assert entry.calibration is not None
        assert entry.calibration.shift_ev == foil.offset_ev
        np.testing.assert_allclose(entry.energy_ev, np.array(energies) + foil.offset_ev, atol=0.05)
        assert (source["source"], source["version"]) == (f"library:{entry.label}", "1")
        assert "shift_ev" not in source
    np.testing.assert_allclose(library.series(*found).mu, series.mu, atol=5e-3)
    # A library that fails costs no measurement.
    monkeypatch.setattr(
        ArrayClient, "write", lambda *_, **__: (_ for _ in ()).throw(httpx.ConnectError("gone"))
    )
    again = measure_standards(
        run_engine, beamline, "Ni", **said, composition="NMC622", calibration=ReferenceCalibration("Ni")
    )
    assert [source["source"] for source in again.sources] == [start["uid"] for start in starts[2:]]
    assert "is measured but not in the reference library" in caplog.text


@pytest.mark.slow
def test_the_commands_add_list_and_analyse_with_them(
    tiled_server: Any, tmp_path: Path, scan_documents: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TILED_API_KEY", tiled_server.api_key)
    monkeypatch.setenv("COLUMNS", "200")
    documents = scan_documents()
    server = ("--tiled", tiled_server.uri)

    def nimco(*arguments: str) -> str:
        done = CliRunner().invoke(build_app(), arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    files = []
    for soc in (0, 0.5, 1):
        files.append(str(tmp_path / f"cmd {soc}.txt"))
        mu = documents.spectrum(documents.references.energy_ev, soc)
        np.savetxt(files[-1], np.column_stack([documents.references.energy_ev + 0.4, mu]))
    states = [word for soc in (0, 0.5, 1) for word in ("--state", f"soc={soc}")]
    said = (*states, "--edge", "Ni", "--composition", "CMD622", *server)
    for wrong, words in (
        ((), "energy axis is not calibrated"),
        (("--foil", "Ni", "--foil-scan", files[0]), "give it alone"),
        (("--foil", "Ni", "--name", "x", "--name", "y"), "3 files and 2 of --name"),
        (("--foil", "Ni", "--name", "x", "--name", "y", "--name", "x"), "would be called 'x'"),
    ):
        with pytest.raises(NimcoError, match=words):
            nimco("references", "add", *files, *said, *wrong)
    output = nimco("references", "add", *files, *said, "--foil", "Ni", "--shift-ev", "-0.4")
    assert "added  cmd 0.5@1: Ni_K, CMD622, SOC 0.5, Ni foil, -0.40 eV" in output
    output = nimco("references", "list", "--edge", "Ni", "--composition", "cmd622", *server)
    assert all(text in output for text in ("cmd 0 ", "cmd 0.5 ", "cmd 1 ", "Ni foil, -0.40 eV", "cmd 1.txt"))
    assert "no such spectra" in nimco("references", "list", "--composition", "CMD811", *server)

    run = documents.run()
    with RawRunWriter(tiled_server.raw) as writer:
        for document in run:
            writer(*document)
        writer.wait(240)
    uid = run[0][1]["uid"]
    chosen = ["--references", ",".join(f"library:cmd {soc}" for soc in (0, 0.5, 1))]
    server = [*server, "--data-dir", str(tmp_path / "data")]
    pictures = []
    for limits in ("0,1", "0.4,0.6"):
        picture = tmp_path / f"{limits}.png"
        nimco("reanalyse", uid, *server, *chosen, "--plot", str(picture), "--soc-range", limits)
        pictures.append(picture.read_bytes())
    assert pictures[0] != pictures[1]
    soc = open_soc(tiled_server.client(), uid)
    sources = soc.attrs["references"]["sources"]
    assert [source["source"] for source in sources] == [f"library:cmd {s}@1" for s in (0, 0.5, 1)]
    assert {source["shift_ev"] for source in sources} == {-0.4}
    np.testing.assert_allclose(soc["soc"].values, documents.soc, atol=0.03)
    for arguments, words in (
        (("--soc-range", "0,1"), "name the picture with --plot"),
        (("--soc-range", "1,0", "--plot", "a.png"), "must rise"),
        (("--references", "library:cmd 0,library:nothing"), "there is no 'nothing'"),
    ):
        with pytest.raises(NimcoError, match=words):
            nimco("reanalyse", uid, *server, *arguments)


def test_a_plan_writes_where_references_came_from_into_the_start_document(library: ReferenceLibrary) -> None:
    add(library, "a", 0.0)
    add(library, "b", 1.0)
    references = library.series("a", "b").to_dict()
    starts: list[dict[str, Any]] = []
    run_engine, beamline = RunEngine(), SimBeamline((32, 32))
    run_engine.subscribe(lambda _, doc: starts.append(doc), "start")
    grid = EnergyGrid((8300.0, 8345.0, 8400.0), (0.5,) * 3)
    run_engine(
        xanes_scan(
            beamline.camera, beamline.energy, beamline.shutter, beamline.stage,
            edge="Ni_K", grid=grid, i0=beamline.i0, references=references,
        )
    )  # fmt: skip
    sources = read_contract(starts[0]).scan.reference_sources
    assert [(source.source, source.version) for source in sources] == [
        ("library:a@1", "1"),
        ("library:b@1", "1"),
    ]
