"""What soft XAS gives: two normalised yields, what each says, and the layers that explain both."""

from callbacks.results import Field, ResultSchema

YIELDS = {"tey": "electron yield", "fy": "fluorescence yield"}
"""Channels that are yields, and what they are called."""

_ENERGY, _COMPONENT, _THICKNESS = ("energy",), ("component",), ("thickness",)

# Name, unit, meaning, whether there is a systematic uncertainty too.
_NUMBERS = (
    ("step", "relative", "edge step over the incident intensity", False),
    ("low_ev", "eV", "top of L3 low", False),
    ("high_ev", "eV", "top of L3 high", False),
    ("gamma", "", "I(L3 high)/I(L3 low) by the fit of the lines", True),
    ("gamma_window", "", "I(L3 high)/I(L3 low) by the maxima in two windows", False),
    ("branching_ratio", "", "area of L3 over that of L3 and L2", False),
    ("pre_edge_area", "eV", "area of the transitions below the main edge of oxygen", True),
    ("saturation", "", "absorption of the edge step over the depth of the yield", False),
    ("valence", "", "mean valence by the linear combination", False),
)


def _scalar(name: str, unit: str, meaning: str, role: str = "value", of: str | None = None) -> Field:
    return Field(name, (), "float64", unit, meaning, role, of, "metadata", f"scalars/{name}")  # type: ignore[arg-type]


def _with_sigma(name: str, unit: str, meaning: str, systematic: bool) -> tuple[Field, ...]:
    unit_ = unit
    fields = [
        _scalar(name, unit_, meaning),
        _scalar(f"{name}_sigma", unit_, f"standard deviation by noise of the {meaning}", "sigma", name),
    ]
    if systematic:
        fields.append(
            _scalar(
                f"{name}_systematic",
                unit_,
                f"what the model adds to that of the {meaning}",
                "systematic",
                name,
            )
        )
    return tuple(fields)


def _of_yield(key: str) -> tuple[Field, ...]:
    words = YIELDS[key]
    arrays = (
        Field(f"{key}_normalized", _ENERGY, "float64", "", f"{words}, 0 below and 1 above the edge"),
        Field(
            f"{key}_normalized_sigma",
            _ENERGY,
            "float64",
            "",
            "standard deviation by noise",
            "sigma",
            f"{key}_normalized",
        ),
        Field(f"{key}_curve", _ENERGY, "float64", "", f"fit of the {words}"),
        Field(key, _ENERGY, "float64", "relative", f"{words} over the incident intensity"),
    )
    numbers = tuple(
        field
        for name, unit, meaning, systematic in _NUMBERS
        for field in _with_sigma(f"{key}_{name}", unit, f"{words}: {meaning}", systematic)
    )
    return (
        *arrays,
        *numbers,
        _scalar(f"{key}_gamma_shift", "", f"{words}: what saturation does to gamma, as measured minus as absorbed"),
        Field(
            f"{key}_fraction", _COMPONENT, "float64", "", f"share of the component in the {words}",
            path=f"components/{key}_fraction",
        ),
        Field(
            f"{key}_fraction_sigma", _COMPONENT, "float64", "", "standard deviation by noise", "sigma",
            f"{key}_fraction", path=f"components/{key}_fraction_sigma",
        ),
    )  # fmt: skip


def _layer(name: str, unit: str, meaning: str, role: str = "value", of: str | None = None) -> Field:
    return Field(name, _THICKNESS, "float64", unit, meaning, role, of, path=f"layer/{name}")  # type: ignore[arg-type]


SOFT_XAS_SCHEMA = ResultSchema(
    "NimcoSoftXAS",
    "1",
    (
        Field("energy_ev", _ENERGY, "float64", "eV", "photon energy, corrected", "coordinate"),
        *(field for key in YIELDS for field in _of_yield(key)),
        *_with_sigma(
            "delta_gamma", "", "gamma of the fluorescence yield minus that of the electron yield", True
        ),
        _scalar("axis_offset_ev", "eV", "what was added to the energies as read back"),
        _scalar(
            "axis_offset_sigma_ev", "eV", "standard deviation of the axis", "systematic", "axis_offset_ev"
        ),
        Field(
            "layer_nm",
            _THICKNESS,
            "float64",
            "nm",
            "thickness of a reduced surface layer",
            "coordinate",
            path="layer/layer_nm",
        ),
        _layer("layer_reduced_fraction", "", "reduced part of a layer so thick that explains both yields"),
        _layer("layer_sigma", "", "standard deviation by noise", "sigma", "layer_reduced_fraction"),
        _layer(
            "layer_systematic",
            "",
            "uncertainty by the depths of the yields",
            "systematic",
            "layer_reduced_fraction",
        ),
        _layer("layer_bulk_valence", "", "valence of the bulk below that layer"),
        _layer("layer_bulk_valence_sigma", "", "standard deviation by noise", "sigma", "layer_bulk_valence"),
        *_with_sigma(
            "point_nm",
            "nm",
            "thickness of the layer that a known bulk fixes, for the depths in depths_nm",
            False,
        ),
        *_with_sigma(
            "point_reduced_fraction", "", "reduced part of that layer, for the depths in depths_nm", False
        ),
    ),
)
"""Arrays of a result of soft XAS; what cannot be told is left out or NaN."""
