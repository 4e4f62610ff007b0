"""Reference spectra from files."""

from pathlib import Path

import numpy as np
import pytest

from nimco._reference_files import read_reference_spectrum
from nimco._reference_options import parse_reference_option, reference_series
from nimco.errors import ReferenceFileError

ENERGY_EV = np.arange(8300.0, 8400.0, 0.5)


def edge(shift_ev: float = 0.0) -> np.ndarray:
    return 0.5 + np.arctan((ENERGY_EV - 8345.0 - shift_ev) / 2.0) / np.pi


def test_two_columns_in_ev(tmp_path: Path) -> None:
    path = tmp_path / "ref.txt"
    np.savetxt(path, np.column_stack([ENERGY_EV, edge()]), header="energy mu")
    spectrum = read_reference_spectrum(path)
    np.testing.assert_allclose(spectrum.energy_ev, ENERGY_EV)
    np.testing.assert_allclose(spectrum.mu, edge())
    assert "energies in eV" in spectrum.notes


def test_csv_with_titles_in_kev_is_recognised_and_said(tmp_path: Path) -> None:
    path = tmp_path / "ref.csv"
    rows = "\n".join(f"{e / 1000:.6f},{m:.8f}" for e, m in zip(ENERGY_EV, edge(), strict=True))
    path.write_text("energy,mu\n" + rows + "\n")
    spectrum = read_reference_spectrum(path)
    np.testing.assert_allclose(spectrum.energy_ev, ENERGY_EV)
    assert any("keV" in note for note in spectrum.notes)


def test_xdi_intensities_become_absorption(tmp_path: Path) -> None:
    path = tmp_path / "ref.xdi"
    i0 = np.full_like(ENERGY_EV, 1000.0)
    header = "# XDI/1.0 test\n# Column.1: energy eV\n# Column.2: i0\n# Column.3: itrans\n# Column.4: irefer\n#---\n"
    rows = "\n".join(
        f"{e:.3f} {a:.6f} {a * np.exp(-m):.9f} 1.0" for e, a, m in zip(ENERGY_EV, i0, edge(), strict=True)
    )
    path.write_text(header + rows + "\n")
    spectrum = read_reference_spectrum(path)
    np.testing.assert_allclose(spectrum.mu, edge(), atol=1e-9)


def test_rows_in_descending_order_with_repeats_come_out_increasing(tmp_path: Path) -> None:
    path = tmp_path / "ref.txt"
    table = np.column_stack([ENERGY_EV, edge()])[::-1]
    np.savetxt(path, np.vstack([table, table[0] + (0.0, 0.2)]))
    spectrum = read_reference_spectrum(path)
    assert (np.diff(spectrum.energy_ev) > 0).all()
    assert spectrum.mu[-1] == pytest.approx(edge()[-1] + 0.1)


def test_series_keeps_the_states_given(tmp_path: Path) -> None:
    files = []
    for name, shift, soc in (("a.txt", 0.0, 0.1), ("b.txt", 2.0, 0.9)):
        np.savetxt(tmp_path / name, np.column_stack([ENERGY_EV, edge(shift)]))
        files.append((tmp_path / name, soc))
    series, notes = reference_series(files)
    np.testing.assert_allclose(series.soc, [0.1, 0.9])
    assert len(notes) == 2
    assert "SOC 0.9" in notes[1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a table"),
        ("hello\nworld\n", "not a table"),
        ("8300 0.1\nwhat is this\n", "text among its numbers"),
        ("8300 0.1\n8301 0.2\n", "at least 5"),
        ("\n".join(f"{e} nan" for e in ENERGY_EV), "non-finite"),
        (
            "# Column.1: energy\n# Column.2: angle\n" + "\n".join(f"{e} 1" for e in ENERGY_EV),
            "none is an absorption",
        ),
    ],
)
def test_bad_files_say_what_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "bad.txt"
    path.write_text(text)
    with pytest.raises(ReferenceFileError, match=words):
        read_reference_spectrum(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReferenceFileError, match=r"nowhere\.txt"):
        read_reference_spectrum(tmp_path / "nowhere.txt")


def test_references_of_two_edges_do_not_overlap(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "ni.txt", np.column_stack([ENERGY_EV, edge()]))
    np.savetxt(tmp_path / "co.txt", np.column_stack([ENERGY_EV - 624.0, edge()]))
    with pytest.raises(ReferenceFileError, match="share no energy range"):
        reference_series([(tmp_path / "ni.txt", None), (tmp_path / "co.txt", None)])


def test_option_with_and_without_state(tmp_path: Path) -> None:
    assert parse_reference_option("a.txt=0.5") == (Path("a.txt"), 0.5)
    assert parse_reference_option("a.txt") == (Path("a.txt"), None)
    odd = tmp_path / "x=1"
    odd.write_text("")
    assert parse_reference_option(str(odd)) == (odd, None)
    with pytest.raises(ReferenceFileError, match="not a state of charge"):
        parse_reference_option("a.txt=full")


def test_real_references_are_read(shared_data: Path) -> None:
    oxide = read_reference_spectrum(shared_data / "spectra/Ni/pyxas_ref_NiO.txt")
    assert any("keV" in note for note in oxide.notes)
    assert 8199 < oxide.energy_ev[0] < 8201
    xdi = read_reference_spectrum(shared_data / "spectra/Ni/ceric_NiO_111.xdi")
    assert "XDI column 'mutrans'" in xdi.notes
    table = read_reference_spectrum(shared_data / "spectra/Ni/xanespy_NCA_xanes.csv")
    assert table.energy_ev.size == 61
