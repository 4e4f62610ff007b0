"""Reference spectra and energy lists in text files as people have them: read rightly, or refused with the reason."""

from pathlib import Path

import numpy as np
import pytest

from beamline_plans import EnergyGrid, GridError
from nimco._reference_files import read_reference_spectrum
from nimco.errors import ReferenceFileError

E = np.round(np.arange(8300.0, 8400.0, 2.5), 3)
MU = np.round(0.5 + np.arctan((E - 8345.0) / 2.0) / np.pi, 6)
I0 = 1000.0 + np.arange(E.size)
IT = I0 * np.exp(-MU)
D_ANGSTROM = 3.1355
ANGLE = np.degrees(np.arcsin(12398.419843 / (2 * D_ANGSTROM * E)))


def rows(*columns: np.ndarray, sep: str = " ", form: str = "{:.9g}", end: str = "\n", tail: str = "") -> str:
    return end.join(sep.join(form.format(v) for v in row) + tail for row in zip(*columns, strict=True)) + end


PLAIN = rows(E, MU)
COMMAS = rows(E, MU).replace(".", ",")
XDI = "# XDI/1.0\n# Element.symbol: Ni\n"

READABLE: dict[str, str | bytes] = {
    "byte order mark": b"\xef\xbb\xbf" + PLAIN.encode(),
    "byte order mark and titles": b"\xef\xbb\xbfenergy,mu\n" + rows(E, MU, sep=",").encode(),
    "UTF-16": PLAIN.encode("utf-16"),
    "UTF-16, big end first": b"\xfe\xff" + PLAIN.encode("utf-16-be"),
    "UTF-16 without mark": PLAIN.encode("utf-16-le"),
    "Latin-1": "# Messung für Müller, 25 °C\n".encode("latin-1") + PLAIN.encode(),
    "Latin-1 micro sign": "Energy (eV);µ(E)\n".encode("latin-1") + rows(E, MU, sep=";").encode(),
    "Greek mu": "Energy / eV\tμ\n" + rows(E, MU, sep="\t"),
    "semicolons": rows(E, MU, sep=";"),
    "semicolons and decimal commas": rows(E, MU, sep=";").replace(".", ","),
    "tabs and decimal commas": rows(E, MU, sep="\t").replace(".", ","),
    "blanks and decimal commas": COMMAS,
    "comma and blank": rows(E, MU, sep=", "),
    "blanks around": rows(E, MU, sep="   ", tail="  ").replace("\n", "\n   "),
    "separator at the end": rows(E, MU, sep=",", tail=","),
    "titles with separator at the end": "energy;mu;\n" + rows(E, MU, sep=";", tail=";"),
    "line ends of Windows": PLAIN.replace("\n", "\r\n"),
    "line ends of old Macs": PLAIN.replace("\n", "\r"),
    "form feed and empty lines": "\n\n" + PLAIN.replace("\n", "\n\n"),
    "quoted": '"Energy (eV)","mu, raw"\n'.replace("mu, raw", "mu") + rows(E, MU, sep=",", form='"{:.9g}"'),
    "quoted decimal commas": '"Energy","mu"\n' + rows(E, MU, sep=";", form='"{:.9g}"').replace(".", ","),
    "groups of thousands": "energy;mu\n" + "".join(f"{e:,.3f};{m}\n" for e, m in zip(E, MU, strict=True)),
    "groups by blanks": "energy\tmu\n"
    + "".join(
        f"{e:,.1f}".replace(",", "\u00a0").replace(".", ",") + f"\t{m}\n".replace(".", ",")
        for e, m in zip(E, MU, strict=True)
    ),
    "exponents of Fortran": rows(E, MU, form="{:.12e}").replace("e+", "D+").replace("e-", "d-"),
    "comments of every kind": "% one\n! two\n; three\n// four\n# 5 6\n" + PLAIN,
    "comments behind": rows(E, MU, tail="  # as measured"),
    "header text without end": "".join(f"Scan parameter {n} set to value {n}\n" for n in range(5000)) + PLAIN,
    "count of points first": f"{E.size}\n" + PLAIN,
    "titles and units": "Energy\tmu\neV\ta.u.\n" + rows(E, MU, sep="\t"),
    "title with unit": "Energy (eV)  mu(E)  I0\n" + rows(E, MU, I0),
    "comment with titles": "# scan of today\n#-----\n# energy mu i0\n" + rows(E, MU, I0),
    "absorption before energy": "mu,i0,energy\n" + rows(MU, I0, E, sep=","),
    "keV": rows(E / 1000, MU),
    "keV by title": "Energy (keV),mu\n" + rows(E / 1000, MU, sep=","),
    "descending": rows(E[::-1], MU[::-1]),
    "every energy twice": rows(np.r_[E, E], np.r_[MU - 0.01, MU + 0.01]),
    "raw intensities": "energy i0 it iref\n" + rows(E, I0, IT, I0 / 3, form="{:.12g}"),
    "raw intensities, other order": "#L it  Energy  iref  i0\n" + rows(IT, E, I0 / 3, I0, form="{:.12g}"),
    "SPEC": "#F file\n#S 1 ascan\n#N 4\n#L Pt No  Energy  mu  Seconds\n" + rows(np.arange(E.size), E, MU, I0),
    "Athena norm": "# Athena data file\n#----\n#  energy norm nbkg flat fbkg nder nsec\n"
    + rows(E, MU, I0, MU + 1, I0, I0, I0),
    "Athena xmu": "#  energy xmu bkg pre_edge post_edge der sec\n" + rows(E, MU, I0, I0, I0, I0, I0),
    "normalised with foil": "# shifted energy\tnormalized\treference\tref.derivative\tI0\n"
    + rows(E, MU, I0, I0, I0),
    "XDI mutrans": XDI
    + "# Column.1: energy eV\n# Column.2: murefer\n# Column.3: mutrans\n#---\n"
    + rows(E, I0, MU),
    "XDI normtrans": XDI + "# Column.1: energy eV\n# Column.2: normtrans\n#---\n" + rows(E, MU),
    "XDI itrans": XDI
    + "# Column.1: energy eV\n# Column.2: i0\n# Column.3: itrans\n# Column.4: irefer\n"
    + rows(E, I0, IT, I0, form="{:.12g}"),
    "XDI angle": XDI
    + f"# Mono.d_spacing: {D_ANGSTROM}\n# Column.1: angle degrees\n# Column.2: mutrans\n"
    + rows(ANGLE, MU, form="{:.14g}"),
    "XDI angle in radians": XDI
    + f"# Mono.d_spacing: {D_ANGSTROM} Angstrom\n# Column.1: angle radians\n# Column.2: mutrans\n"
    + rows(np.radians(ANGLE), MU, form="{:.14g}"),
    "wavelength": "wavelength (A),mu\n" + rows(12398.419843 / E, MU, sep=",", form="{:.14g}"),
    "rows without values at the ends": rows(np.r_[8290.0, E, 8400.0], np.r_[np.nan, MU, np.nan]),
}


@pytest.mark.parametrize("kind", READABLE)
def test_a_spectrum_is_read_rightly(tmp_path: Path, kind: str) -> None:
    text = READABLE[kind]
    path = tmp_path / "ref.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    spectrum = read_reference_spectrum(path)
    np.testing.assert_allclose(spectrum.energy_ev, E, atol=1e-5)
    np.testing.assert_allclose(spectrum.mu, MU, atol=2e-6)
    assert ("twice" in kind) == any("averaged" in note for note in spectrum.notes)
    assert ("without values" in kind) == any("left out" in note for note in spectrum.notes)


def broken(index: int, text: str) -> str:
    lines = PLAIN.splitlines()
    lines[index] = text
    return "\n".join(lines) + "\n"


REFUSED: dict[str, tuple[str | bytes, str]] = {
    "three columns without titles": (rows(E, I0, MU), "3 columns without titles"),
    "first column no energy": (rows(np.arange(E.size), MU), "no scan of an edge"),
    "absorption first": (rows(MU, E), "no scan of an edge"),
    "relative energies": (rows(E - 8333, MU), "no scan of an edge"),
    "angle without title": (rows(ANGLE, MU), "no scan of an edge"),
    "wavenumbers": ("k chi energy_shift\n" + rows(E / 1000, MU, I0), "none is an absorption"),
    "titles of other things": ("energy,i0,iref\n" + rows(E, I0, I0, sep=","), "none is an absorption"),
    "only the foil": (
        XDI + "# Column.1: energy\n# Column.2: murefer\n" + rows(E, MU),
        "none is an absorption",
    ),
    "two of a name": ("energy mu mu\n" + rows(E, MU, MU), "2 columns titled 'mu'"),
    "no energy": ("mu i0\n" + rows(MU, I0), "none is an energy"),
    "several energies": (
        "energy_set,energy_read,mu\n" + rows(E, E, MU, sep=","),
        "several columns of energies",
    ),
    "titles for more columns": ("energy i0 it mu\n" + rows(E, I0, MU), "4 titles"),
    "unit that cannot be": ("Energy (eV),mu\n" + rows(E / 1000, MU, sep=","), "by its title"),
    "angle without lattice": (
        XDI + "# Column.1: angle\n# Column.2: mutrans\n" + rows(ANGLE, MU),
        "Mono.d_spacing",
    ),
    "commas for both": (rows(np.round(E), np.arange(E.size), sep=","), "separators or decimal commas"),
    "commas for both, four columns": (
        rows(E, MU + 1, form="{:.3f}", sep=",").replace(".", ","),
        "decimal commas",
    ),
    "intensity of zero": ("energy i0 it\n" + rows(E, I0, IT * (E > 8350)), "zero or negative"),
    "hole": (broken(7, "8317.5 nan"), "line 8"),
    "overflow of Fortran": (broken(7, "8317.5 ******"), "text among its numbers"),
    "infinite": (broken(7, "8317.5 inf"), "line 8"),
    "empty cell": ("energy;mu\n" + rows(E, MU, sep=";").replace("8350;0.878881", "8350;"), "missing values"),
    "number too many": (broken(7, "8317.5 0.1 0.2"), "3 numbers in line 8"),
    "two scans": (
        "#S 1\n#L energy  mu\n" + PLAIN + "\n#S 2\n#L energy  mu\n" + PLAIN,
        "several scans",
    ),
    "Athena project": (b"\x1f\x8b\x08\x00\x00\x00", "Athena project"),
    "binary": (bytes(range(256)) * 20, "not text"),
    "picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(200)), "not text"),
    "nothing": ("", "not a table"),
    "one column": (rows(E), "not a table"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_told_is_refused(tmp_path: Path, kind: str) -> None:
    text, words = REFUSED[kind]
    path = tmp_path / "ref.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ReferenceFileError, match=words) as refused:
        read_reference_spectrum(path)
    assert "ref.txt" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_no_file_of_text(tmp_path: Path) -> None:
    with pytest.raises(ReferenceFileError, match="folder"):
        read_reference_spectrum(tmp_path)
    huge = tmp_path / "huge.txt"
    with huge.open("wb") as file:
        file.truncate(10**9)
    with pytest.raises(ReferenceFileError, match="1000 MB"):
        read_reference_spectrum(huge)
    with pytest.raises(ReferenceFileError, match="cannot be read"):
        read_reference_spectrum(f"{tmp_path}/a\0b")


def test_every_real_spectrum_is_read_rightly_or_refused(shared_data: Path) -> None:
    seen, refused = {}, {}
    for path in sorted((shared_data / "spectra").glob("*/*")):
        try:
            spectrum = read_reference_spectrum(path)
        except ReferenceFileError as error:
            refused[path.name] = str(error)
            continue
        seen[path.name] = spectrum
        edge_ev = {"Ni": 8333.0, "Co": 7709.0, "Mn": 6539.0}[path.parent.name]
        near = np.abs(spectrum.energy_ev - edge_ev) < 25
        below, above = spectrum.mu[spectrum.energy_ev < edge_ev - 12], spectrum.mu[near]
        assert above[-1] - below[-1] > 0.1, path.name  # an edge is there, and upwards
    assert {Path(name).suffix for name in refused} == {".prj", ".dat"}
    assert "none is an absorption" in refused["parseq_Co-foil_EXAFS_23107.dat"]
    assert len(seen) >= 37
    assert "column 'normalized'" in seen["perex_norm_op2_cell4_pos1_dq1_0001_av240_00001.txt"].notes


GRID = "energy_ev,exposure_s\n8300,0.5\n8340,1.25\n8400,0.5\n"
GRIDS: dict[str, str | bytes] = {
    "byte order mark": b"\xef\xbb\xbf" + GRID.encode(),
    "UTF-16": GRID.encode("utf-16"),
    "semicolons": GRID.replace(",", ";"),
    "tabs": GRID.replace(",", "\t"),
    "decimal commas": GRID.replace(",", ";").replace(".", ","),
    "line ends": GRID.replace("\n", "\r\n"),
    "comments": "# my list\n\n" + GRID + "\n",
    "comment with titles": "# energy_ev exposure_s\n" + GRID.split("\n", 1)[1].replace(",", " "),
    "units": "Energy (eV),Exposure (s)\n" + GRID.split("\n", 1)[1],
    "keV": "energy_kev,exposure_s\n8.300,0.5\n8.340,1.25\n8.400,0.5\n",
    "keV by size": "energy,exposure\n8.300,0.5\n8.340,1.25\n8.400,0.5\n",
    "milliseconds": "energy_ev,exposure_ms\n8300,500\n8340,1250\n8400,500\n",
    "more columns": "point,energy_ev,exposure_s\n0,8300,0.5\n1,8340,1.25\n2,8400,0.5\n",
    "regions": "start_ev,stop_ev,step_ev,exposure_s\n8300,8300,1,0.5\n8340,8340,1,1.25\n8400,8400,1,0.5\n",
    "regions in keV": "start (keV);stop (keV);step (keV);exposure\n8,3;8,3;0,001;0,5\n8,34;8,34;0,001;1,25\n"
    "8,4;8,4;0,001;0,5\n",
    "regions in keV by size": "start stop step exposure\n8.3 8.3 0.001 0.5\n8.34 8.34 0.001 1.25\n8.4 8.4 0.001 0.5\n",
}


@pytest.mark.parametrize("kind", GRIDS)
def test_a_grid_is_read_rightly(tmp_path: Path, kind: str) -> None:
    text = GRIDS[kind]
    path = tmp_path / "grid.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    grid = EnergyGrid.from_csv(path)
    assert grid.energies_ev == (8300.0, 8340.0, 8400.0)
    assert grid.exposure_s == pytest.approx((0.5, 1.25, 0.5))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not a table"),
        ("8300,0.5\n8340,0.5\n", "no column energy_ev"),
        ("exposure_s,time\n1.5,2\n", "several columns for one thing"),
        ("exposure_s,width\n1.5,2\n", "no column energy_ev, only exposure, width"),
        ("energy_ev,exposure_s\n8300,0.5\nnan,0.5\n", "finite"),
        ("energy_ev,exposure_s\n8300,0.5\n8340,\n", "finite"),
        ("energy_ev,exposure_s\n8300,0.5\n8340,0\n", "positive"),
        ("energy_ev,exposure_s\n8.300,0.5\n8.340,0.5\n", "looks like keV"),
        ("energy_kev\n8300\n8340\n", "eV by its size"),
        ("energy_ev,exposure_s\n8300,0.5\nend of list\n", "text among its numbers"),
        ("energy_ev,exposure_s\n8300,0.5,1\n", "2 titles"),
        ("start,stop,step\n8.3,8400,1\n", "mixes keV and eV"),
        ("start_kev,stop_kev,step_ev\n8.3,8.4,1\n", "mixes units"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "not text"),
    ],
)
def test_what_is_no_grid_is_refused(tmp_path: Path, text: str | bytes, words: str) -> None:
    path = tmp_path / "grid.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(GridError, match=words):
        EnergyGrid.from_csv(path)
