"""What a map with a fluorescence detector gives: counts of elements, ratios of atoms, and the summed spectrum."""

from callbacks.results import Field, ResultSchema

_MAP, _ELEMENT, _CHANNEL = ("row", "column"), ("element", "row", "column"), ("channel",)

RATIOS = {
    "ni_fraction": "share of nickel among the atoms of Mn, Co and Ni",
    "mn_ni": "atoms of Mn over those of Ni",
    "co_ni": "atoms of Co over those of Ni",
}
"""Ratios of atoms, where their elements are looked for."""


def _with_sigma(name: str, dims: tuple[str, ...], unit: str, meaning: str, sigma: str) -> tuple[Field, Field]:
    return (
        Field(name, dims, "float32", unit, meaning),
        Field(f"{name}_sigma", dims, "float32", unit, f"{sigma} of the {meaning}", "sigma", name),
    )


XRF_SCHEMA = ResultSchema(
    "NimcoXRF",
    "1",
    (
        Field("row_um", ("row",), "float64", "um", "position along rows", "coordinate"),
        Field("column_um", ("column",), "float64", "um", "position along columns", "coordinate"),
        *(
            field
            for name, meaning in RATIOS.items()
            for field in _with_sigma(name, _MAP, "", meaning, "half of the interval that holds 68 %")
        ),
        *_with_sigma(
            "element_counts", _ELEMENT, "counts", "photons of each element, dead time corrected, not negative",
            "standard deviation by counting",
        ),
        Field(
            "element_counts_free", _ELEMENT, "float32", "counts",
            "the same by free least squares: without bias, for averages",
        ),
        *_with_sigma(
            "areal_density", _ELEMENT, "ug/cm2", "areal density of each element", "standard deviation by counting"
        ),
        Field("escape", _ELEMENT, "float32", "", "part of each element's photons that the sample lets out", "quality"),
        *_with_sigma(
            "series", ("energy", "row", "column"), "counts", "photons of the edge's element over I0 at each energy",
            "standard deviation by counting",
        ),
        *_with_sigma("soc", _MAP, "", "state of charge", "standard deviation"),
        Field("soc_supported", _MAP, "int16", "", "1 where the references have its composition", "quality"),
        Field("scatter_counts", _MAP, "float32", "counts", "photons of the beam that were scattered", "quality"),
        Field("i0", _MAP, "float32", "", "incident intensity", "quality"),
        Field("point_status", _MAP, "int16", "", "0 measured, 1 missing, 2 saturated", "quality"),
        Field("energy_ev", ("energy",), "float64", "eV", "energy of the beam", "coordinate"),
        Field("channel_ev", _CHANNEL, "float64", "eV", "energy of a channel", "coordinate"),
        Field("summed_spectrum", _CHANNEL, "float64", "counts", "sum of all spectra"),
        Field("summed_fit", _CHANNEL, "float64", "counts", "fit of the sum"),
        Field("summed_background", _CHANNEL, "float64", "counts", "background in that fit"),
    ),
)  # fmt: skip
"""Arrays of a result of fluorescence; NaN where nothing was measured."""
