"""What images at a soft edge give: maps of the state and of the thickness, shares of the components, spectra."""

from callbacks.results import Field, ResultSchema

_MAP, _PARTS, _ENERGY = ("row", "column"), ("component", "row", "column"), ("energy",)


def _sigma(name: str, dims: tuple[str, ...], unit: str) -> Field:
    return Field(f"{name}_sigma", dims, "float32", unit, "standard deviation by noise", "sigma", name)


def _spectrum(name: str, unit: str, meaning: str) -> Field:
    return Field(name, _ENERGY, "float64", unit, meaning, path=f"spectra/{name}")


SOFT_IMAGES_SCHEMA = ResultSchema(
    "NimcoSoftImages",
    "1",
    (
        Field("valence", _MAP, "float32", "", "mean valence; of references without one, the share of the last"),
        _sigma("valence", _MAP, ""),
        Field("thickness_nm", _MAP, "float32", "nm", "thickness by the edge step"),
        _sigma("thickness_nm", _MAP, "nm"),
        Field("edge_jump", _MAP, "float32", "", "what the edge adds far above it"),
        _sigma("edge_jump", _MAP, ""),
        Field("fraction", _PARTS, "float32", "", "share of each component"),
        _sigma("fraction", _PARTS, ""),
        Field("status", _MAP, "uint8", "", "outcome of each pixel, edge_fitting.FitStatus", "status", "valence"),
        Field("goodness", _MAP, "float32", "", "chi2 over degrees of freedom", "quality", "valence"),
        Field("bare", _MAP, "uint8", "", "1 where the open beam was taken", "status"),
        Field("image", _MAP, "float32", "", "image at the energy taken last, as it grows: rate or yield"),
        Field("row_um", ("row",), "float64", "um", "place of the line", "coordinate", path="places_row/row_um"),
        Field(
            "column_um", ("column",), "float64", "um", "place along the line", "coordinate",
            path="places_column/column_um",
        ),
        Field("energy_ev", _ENERGY, "float64", "eV", "photon energy", "coordinate", path="spectra/energy_ev"),
        _spectrum("mean_optical_depth", "", "mean over the fitted pixels, optical depth or yield"),
        _spectrum("mean_curve", "", "fit of that mean"),
        _spectrum("open_beam", "1/s", "counts per second without sample"),
        _spectrum("lines_done", "", "share of the image that has been taken"),
        _spectrum("shift_row_px", "px", "drift that was taken out, along rows"),
        _spectrum("shift_column_px", "px", "drift that was taken out, along columns"),
    ),
)  # fmt: skip
"""Arrays of a result of STXM or XPEEM; what cannot be told is left out or NaN."""
