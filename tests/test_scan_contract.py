"""What a run says about itself: models, labels, older versions and the validator."""

import re
from pathlib import Path

import pytest

from scan_contract import (
    Contract,
    ContractError,
    FieldOfView,
    FullFieldContract,
    Label,
    PointContract,
    Proposal,
    ReferenceSource,
    Sample,
    Shot,
    is_energy_scan,
    label_data_keys,
    read_contract,
    read_label,
    read_provenance,
    read_shot,
    shot_values,
    validate_run_documents,
)

TWO = {"edge": "Ni_K", "energies_ev": [8300.0, 8400.0], "exposure_s": [1.0, 2.0]}
DEVICES = {"camera": "camera", "energy": "energy", "i0": None}


def start_of(**block):
    return {"uid": "0123456789", "plan_name": "xanes_scan", "scan_group": "group", "xanes": block}


def test_a_contract_comes_back_from_its_plain_form():
    made = FullFieldContract(
        **TWO,
        devices=DEVICES,
        sample={"name": "cell 4", "cycle": 12, "voltage_v": 4.2, "batch": "B"},
        axes={"angle_deg": [0.0, 90.0]},
        reference_sources=[{"name": "NiO", "foil": "Ni", "shift_ev": -0.4}],
    )
    read = read_contract(start_of(**made.to_dict()))
    assert read.scan == made
    assert read.scan.sample.batch == "B"
    assert read.scan.readings_expected == 4
    assert isinstance(read.scan, FullFieldContract)


@pytest.mark.parametrize(
    ("flat_order", "flats"),
    [("per_energy", 4), ("every_n", 4), ("after_all", 4), ("before_all", 2), ("none", 0)],
)
def test_events_expected_by_the_order_of_flats(flat_order, flats):
    scan = FullFieldContract(**TWO, devices=DEVICES, flat_order=flat_order, n_flats=2, n_darks=3, repeats=5)
    assert scan.events_expected == 2 * 5 + flats + 2 * 3  # two exposures, so darks of both


def test_a_resumed_run_expects_what_was_missing():
    scan = FullFieldContract(**TWO, devices=DEVICES, take={"primary": [1], "flat": []}, resumes="other")
    assert scan.taken_indices == (1,)
    assert scan.readings_expected == 1
    assert scan.flats_expected == 0


def test_version_one_is_read(scan_documents):
    documents = scan_documents().run(sample={"name": "NMC622"})
    read = read_contract(documents[0][1])
    assert isinstance(read.scan, FullFieldContract)
    assert read.scan.sample.name == "NMC622"
    validate_run_documents(documents)
    point = {
        "uid": "p",
        "xas": {"schema_version": 1, **TWO, "channels": {"it": "diode"}, "devices": {"energy": "e"}},
    }
    assert isinstance(read_contract(point).scan, PointContract)


def test_an_unknown_technique_is_read_as_far_as_all_techniques_agree():
    class DiodeContract(Contract):
        gain: float

    block = {"schema_version": 2, "technique": "diode", **TWO, "devices": {}, "gain": "3"}
    assert type(read_contract(start_of(**block)).scan) is Contract
    assert read_contract(start_of(**block), {"diode": DiodeContract}).scan.gain == 3.0


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"edge": None}, "edge is None"),
        ({"energies_ev": "abc"}, "energies_ev is 'abc'"),
        ({"energies_ev": []}, "energies_ev is \\[\\]"),
        ({"energies_ev": [8.3, 8.4]}, "looks like keV"),
        ({"energies_ev": [8300.0, float("nan")]}, "energies_ev.1 is nan"),
        ({"exposure_s": [1.0]}, "2 energies and 1 exposures"),
        ({"exposure_s": [1.0, 0.0]}, "exposure_s.1 is 0.0"),
        ({"n_darks": "many"}, "n_darks is 'many'"),
        ({"repeats": 0}, "repeats is 0"),
        ({"flat_order": "sometimes"}, "flat_order is 'sometimes'"),
        ({"devices": ["camera"]}, "devices is \\['camera'\\]"),
        ({"take": {"primary": [7]}}, "energy index 7 is taken of a grid of 2"),
        ({"schema_version": 3}, "version 3"),
        ({"schema_version": [2]}, "version \\[2\\]"),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(changed, said):
    block = {"schema_version": 2, "technique": "full_field", **TWO, "devices": DEVICES, **changed}
    with pytest.raises(ContractError, match=said) as caught:
        read_contract(start_of(**block))
    assert "01234567" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("xanes", ["Ni K, first try", True, 3, [1], None, {}, {"edge": "Ni_K"}])
def test_what_is_not_ours_is_no_energy_scan(xanes):
    assert not is_energy_scan({"uid": "u", "xanes": xanes})
    with pytest.raises(ContractError, match="says nothing"):
        read_contract({"uid": "u", "xanes": xanes})


def test_a_label_comes_back_from_the_data_of_its_event():
    shot = Shot("primary", 3, 8345.0, 0.5, 1, (("angle", 7),))
    data = shot_values(shot, attempt=2)
    assert data.keys() == label_data_keys(("angle",)).keys()
    assert read_shot("primary", data) == shot
    label = read_label("primary", data)
    assert label == Label("primary", 3, 1, 2, {"angle": 7})
    assert label.slot == ("primary", 3, 1, ("angle", 7))


@pytest.mark.parametrize("bad", [None, "3", 1.5, float("nan"), [1], True])
def test_a_label_of_something_else_is_refused(bad):
    data = {**shot_values(Shot("flat", 3, 8345.0, 0.5, 1), 0), "xanes_energy_index": bad}
    with pytest.raises(ContractError, match="xanes_energy_index"):
        read_label("flat", data)
    with pytest.raises(ContractError, match="holds no data"):
        read_label("flat", None)


def test_who_and_what_may_be_just_a_name():
    said = read_provenance({"sample": "cell 4", "proposal": 317000})
    assert (said["sample"].name, said["proposal"].number, said["field_of_view"]) == ("cell 4", "317000", None)
    for metadata, match in (
        ({"sample": {"name": "cell 4", "cycle": "first"}}, "sample.*cycle is 'first'"),
        ({"field_of_view": [1, 2]}, "field of view is \\[1, 2\\]"),
    ):
        with pytest.raises(ContractError, match=match):
            read_provenance(metadata)


def test_what_stands_beside_the_contract_belongs_to_it():
    said = FullFieldContract(**TWO, devices=DEVICES, sample={"name": "cell 4"}).to_dict()
    start = {**start_of(**said), "sample": "another", "proposal": {"number": 3}, "field_of_view": ["here"]}
    scan = read_contract(start).scan
    assert (scan.sample.name, scan.proposal.number, scan.field_of_view.name) == ("cell 4", "3", "['here']")
    assert "sample" in said
    assert not {"field_of_view", "proposal", "take", "resumes", "max_frames"} & said.keys()


def test_the_validator_knows_flats_before_all(scan_documents):
    made = scan_documents(flat_order="before_all", n_flats=1)
    first = [step for step in made.steps() if step[0] == "dark"]
    flat = ("flat", -1, made.flat(), {"xanes_energy_index": -1})
    frames = [step for step in made.steps() if step[0] == "primary"]
    validate_run_documents(made.run([*first, flat, *frames]))
    with pytest.raises(ContractError, match="the stream flat lacks 1 of 1"):
        validate_run_documents(made.run([*first, *frames]))
    with pytest.raises(ContractError, match="the stream primary lacks 1 of"):
        validate_run_documents(made.run([*first, flat, *frames[1:]]))


def test_every_field_of_the_contract_is_described():
    page = (Path(__file__).parents[1] / "docs/reference/documents.md").read_text(encoding="utf-8")
    models = (FullFieldContract, PointContract, Sample, FieldOfView, Proposal, ReferenceSource)
    words = set(re.findall(r"[a-z0-9_]+", " ".join(re.findall(r"^\|[^|]*\|[^\n]*", page, re.MULTILINE))))
    assert [name for model in models for name in model.model_fields if name not in words] == []
