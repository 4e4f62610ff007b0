"""What point spectra give: one spectrum of all sweeps, its edge energies, and tables of sweeps and glitches."""

from callbacks.results import Field, ResultSchema
from edge_fitting import EDGE_DEFINITIONS

_ENERGY, _SWEEP, _GLITCH = ("energy",), ("sweep",), ("glitch",)


def _scalar(name: str, unit: str, meaning: str, role: str = "value", of: str | None = None) -> Field:
    return Field(name, (), "float64", unit, meaning, role, of, "metadata", f"scalars/{name}")  # type: ignore[arg-type]


def _sweep(column: str, dtype: str, unit: str, meaning: str) -> Field:
    return Field(f"sweep_{column}", _SWEEP, dtype, unit, meaning, "quality", path=f"sweeps/{column}")


def _glitch(column: str, dtype: str, unit: str, meaning: str) -> Field:
    return Field(f"glitch_{column}", _GLITCH, dtype, unit, meaning, "quality", path=f"glitches/{column}")


def _position(definition: str) -> tuple[Field, ...]:
    words = definition.replace("_", " ")
    return (
        _scalar(f"{definition}_ev", "eV", f"edge energy, {words}"),
        _scalar(
            f"{definition}_sigma_ev",
            "eV",
            f"standard deviation of the {words} by noise",
            "sigma",
            f"{definition}_ev",
        ),
    )


XAS_SCHEMA = ResultSchema(
    "NimcoXAS",
    "1",
    (
        Field("energy_ev", _ENERGY, "float64", "eV", "photon energy, put right by the foil", "coordinate"),
        Field("mu", _ENERGY, "float64", "optical depth", "absorption of the sample"),
        Field("mu_sigma", _ENERGY, "float64", "optical depth", "standard deviation by noise", "sigma", "mu"),
        Field("foil_mu", _ENERGY, "float64", "optical depth", "absorption of the reference foil"),
        Field("normalized_mu", _ENERGY, "float64", "", "absorption, 0 below and 1 above the edge"),
        Field(
            "normalized_mu_sigma",
            _ENERGY,
            "float64",
            "",
            "standard deviation by noise",
            "sigma",
            "normalized_mu",
        ),
        Field(
            "residual", _ENERGY, "float64", "edge step", "normalised absorption minus that of the references"
        ),
        Field(
            "difference",
            _ENERGY,
            "float64",
            "edge step",
            "normalised absorption minus the stored spectrum",
        ),
        Field("n_sweeps", _ENERGY, "int64", "", "sweeps with a value at the energy", "quality"),
        *(field for definition in EDGE_DEFINITIONS for field in _position(definition)),
        _scalar(
            "axis_offset_ev", "eV", "what the foil added to the energies as read back, mean of the sweeps"
        ),
        _scalar(
            "axis_offset_sigma_ev",
            "eV",
            "standard deviation of the axis, common to all edge energies",
            "systematic",
            "axis_offset_ev",
        ),
        _scalar("edge_step", "optical depth", "edge step, as in Larch"),
        _scalar("edge_step_sigma", "optical depth", "standard deviation by noise", "sigma", "edge_step"),
        _scalar("soc", "", "state of charge on the scale of the references"),
        _scalar("soc_sigma", "", "standard deviation by noise", "sigma", "soc"),
        _scalar("soc_systematic", "", "uncertainty from axis and references", "systematic", "soc"),
        _scalar("valence", "", "mean valence from the calibration line"),
        _scalar("valence_sigma", "", "standard deviation by noise and axis", "sigma", "valence"),
        _scalar("valence_systematic", "", "uncertainty of the calibration line", "systematic", "valence"),
        _sweep("number", "int64", "", "number of the sweep, from 0"),
        _sweep("offset_ev", "float64", "eV", "what was added to its energies"),
        _sweep("offset_sigma_ev", "float64", "eV", "standard deviation of that"),
        _sweep("by_foil", "uint8", "", "whether its own foil says so"),
        _sweep("used", "uint8", "", "whether it is in the spectrum"),
        _sweep("noise", "float64", "optical depth", "standard deviation of one point"),
        _sweep("deviation", "float64", "", "difference to the others, relative to their noise"),
        _sweep("n_points", "int64", "", "points that are used"),
        _glitch("sweep", "int64", "", "number of the sweep, from 0"),
        _glitch("energy_ev", "float64", "eV", "energy as read back"),
        _glitch("kind", "uint8", "", "1: I0 and It alike, 2: It alone, 3: I0 alone"),
    ),
)
"""Arrays of a result of point spectra; what cannot be told is left out or NaN."""
