"""Who and what was measured goes from the run's contract into results, Tiled, files and pictures."""

import json

import h5py
import pandas as pd
import pytest
import tifffile

from callbacks import (
    LiveSOC,
    LiveSOCPlot,
    SOCPublisher,
    export_csv,
    export_nexus,
    export_tiff,
    open_soc,
    soc_versions,
)
from edge_fitting import ReferenceSeries

SAMPLE = {
    "name": "cell 4",
    "composition": "NMC622",
    "electrode_side": "cathode",
    "cycle": 12.5,
    "voltage_v": 4.2,
    "history": "formed at C/20\nkept at 60 C",
    "batch": 7,
}
VIEW = {"name": "A3", "row_um": 12.0, "column_um": -3.5}
PROPOSAL = {
    "number": "317000",
    "title": "Aging",
    "principal_investigator": "M. Curie",
    "path": "/data/317000",
}
IN_START = [{"name": "state 0", "source": "run 1", "foil": "Ni", "shift_ev": -0.4}]


def analysed(documents, *publishers, **options):
    with LiveSOC(subscribers=publishers, **options) as live:
        for name, doc in documents:
            live(name, doc)
        live.wait(240)
        assert live.errors == []
        return live.latest()


@pytest.fixture
def documents(scan_documents):
    scan = scan_documents(
        schema_version=2,
        technique="full_field",
        sample=SAMPLE,
        field_of_view=VIEW,
        proposal=PROPOSAL,
        reference_sources=IN_START,
    )
    return scan, scan.run()


def test_a_result_says_who_and_what_wherever_it_goes(documents, tiled_server, tmp_path):
    _, run = documents
    with SOCPublisher(tiled_server.maps) as publisher:
        made = analysed(run, publisher)
        publisher.wait(240)
    found = open_soc(tiled_server.client(), made.attrs["raw_uid"])
    for attrs in (
        made.attrs,
        found.attrs,
        tiled_server.client()["maps"][made.attrs["raw_uid"]]["Ni_K"].metadata,
    ):
        assert attrs["sample"] == SAMPLE
        assert attrs["field_of_view"] == VIEW
        assert attrs["proposal"] == PROPOSAL
        assert attrs["reference_sources"] == IN_START
        assert attrs["analysis"]["options"] == {
            "method": "series",
            "references": "in the start document",
            "axis_offset": "report",
            "register": "auto",
            "n_darks": 2,
        }
    with h5py.File(export_nexus(found, tmp_path / "map.h5")) as file:
        sample = file["entry/sample"]
        assert sample.attrs["NX_class"] == "NXsample"
        assert (sample["name"][()], sample["composition"][()]) == (b"cell 4", b"NMC622")
        assert (sample["cycle"][()], sample["voltage_v"][()], sample["voltage_v"].attrs["units"]) == (
            12.5,
            4.2,
            "V",
        )
        assert sample["history/notes/data"][()].decode() == SAMPLE["history"]
        assert sample["field_of_view/row_um"].attrs["units"] == "um"
        assert file["entry/user/name"][()] == b"M. Curie"
        assert (file["entry/experiment_identifier"][()], file["entry/proposal/path"][()]) == (
            b"317000",
            b"/data/317000",
        )
        assert json.loads(file["entry/process/reference_sources/data"][()]) == IN_START
    (frames,) = (path for path in export_csv(found, tmp_path) if path.stem.endswith("frames"))
    header = dict(
        line[2:].split(": ", 1) for line in frames.read_text().splitlines() if line.startswith("# ")
    )
    assert json.loads(header["sample"]) == SAMPLE
    assert json.loads(header["reference_sources"]) == IN_START
    assert len(pd.read_csv(frames, comment="#")) == made.attrs["n_frames"]
    picture = next(path for path in export_tiff(found, tmp_path) if path.stem.endswith("_soc"))
    with tifffile.TiffFile(picture) as tiff:
        assert json.loads(tiff.imagej_metadata["Info"])["proposal"] == PROPOSAL
    figure = LiveSOCPlot(tmp_path / "x.png", show=False).render(found)
    assert any("cell 4" in text.get_text() for text in figure.texts)


def test_sources_are_those_of_the_references_that_were_used(documents, tiled_server):
    scan, run = documents
    plain = scan.references
    known = [{"name": f"state {state:g}", "source": "library", "version": "3"} for state in plain.soc]
    library = ReferenceSeries(plain.energy_ev, plain.mu, plain.soc, sources=known)
    with SOCPublisher(tiled_server.maps) as publisher:
        results = []
        for references in (None, library, plain):
            results.append(analysed(run, publisher, references=references))
            publisher.wait(240)
    assert [held.attrs["reference_sources"] for held in results] == [IN_START, known, []]
    listed = soc_versions(tiled_server.client(), results[0].attrs["raw_uid"])
    assert [list(held.reference_sources) for held in listed] == [IN_START, known, []]
    assert [held.options["references"] for held in listed] == [
        "in the start document",
        "given to the analysis",
        "given to the analysis",
    ]
    assert [held.analysed_s for held in listed] == sorted(held.analysed_s for held in listed)


def test_a_run_that_says_nothing_gets_nothing_ascribed(scan_documents, tmp_path):
    made = analysed(scan_documents(references=None, reference_sources=IN_START).run())
    assert [made.attrs[key] for key in ("sample", "field_of_view", "proposal", "reference_sources")] == [
        {},
        {},
        {},
        [],
    ]
    with h5py.File(export_nexus(made, tmp_path / "map.h5")) as file:
        assert "sample" not in file["entry"]
    # A name beside the contract, as users of the RunEngine write it.
    named = analysed(scan_documents().run(sample="NMC622"))
    assert named.attrs["sample"] == {"name": "NMC622"}
