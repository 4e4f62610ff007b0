"""Spectral parameters of the materials the twin is made of, on the foil-calibrated energy axis.

Half-jump and white line of each compound lie where measured spectra have them; the tests compare both with
reference measurements where these are at hand.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from beamline_devices import DeviceError

from ._lineshape import ChargeSeries, Lineshape, Peak, Shell

__all__ = ["COMPOUNDS", "EDGE_ELEMENT", "LAYERED_OXIDE", "METALS", "Compound", "edge_of_twin"]

METALS: tuple[str, ...] = ("Ni", "Mn", "Co")
"""The absorbers of the electrode, in the order of the twin's maps."""

EDGE_ELEMENT: Mapping[str, str] = MappingProxyType({"Ni_K": "Ni", "Mn_K": "Mn", "Co_K": "Co"})
"""Edges the twin can be scanned across, and the element of each."""


@dataclass(frozen=True)
class Compound:
    """A pure reference material.

    Attributes
    ----------
    element : str
        The absorber whose edge is described.
    formula : dict
        Atoms per formula unit.
    density_g_cm3 : float
        Density.
    lineshape : Lineshape
        Near-edge absorption of the absorber.
    """

    element: str
    formula: Mapping[str, int]
    density_g_cm3: float
    lineshape: Lineshape


_NI_3 = Lineshape(
    8347.10,
    1.50,
    peaks=(
        Peak(8352.53, 0.698, 2.95),
        Peak(8334.10, 0.012, 0.80),
        Peak(8344.80, 0.295, 2.60),
        Peak(8364.30, -0.126, 3.00),
    ),
    shells=(Shell(0.907, 1.391, 2.50), Shell(0.086, 2.322, 3.00)),
    damping_a2=0.0300,
)
_NI_4 = Lineshape(
    8348.54,
    1.38,
    peaks=(
        Peak(8354.91, 0.655, 2.71),
        Peak(8335.14, 0.014, 0.80),
        Peak(8346.88, 0.346, 2.58),
        Peak(8366.47, -0.071, 3.00),
    ),
    shells=(Shell(0.914, 1.338, 2.51), Shell(0.122, 2.254, 3.00)),
    damping_a2=0.0227,
)
_CO_3 = Lineshape(
    7722.91,
    1.70,
    peaks=(
        Peak(7727.81, 0.429, 1.36),
        Peak(7709.60, 0.020, 0.90),
        Peak(7720.21, 0.247, 2.11),
        Peak(7730.59, 0.385, 2.87),
    ),
    shells=(Shell(0.424, 1.402, 1.90), Shell(0.203, 2.026, 4.67)),
    damping_a2=0.0058,
)
_CO_4 = Lineshape(
    7723.33,
    1.75,
    peaks=(
        Peak(7728.60, 0.425, 1.50),
        Peak(7709.90, 0.028, 0.95),
        Peak(7720.63, 0.247, 2.15),
        Peak(7731.50, 0.380, 2.95),
    ),
    shells=(Shell(0.430, 1.392, 1.85), Shell(0.205, 2.010, 4.67)),
    damping_a2=0.0060,
)
_MN_4 = Lineshape(
    6556.30,
    1.85,
    peaks=(
        Peak(6559.93, 0.264, 1.66),
        Peak(6541.90, 0.080, 1.40),
        Peak(6554.29, 0.431, 2.94),
        Peak(6563.92, 0.239, 3.77),
    ),
    shells=(Shell(0.934, 1.300, 2.68), Shell(0.123, 3.100, -0.46)),
    damping_a2=0.0368,
)
_MN_4_CHARGED = Lineshape(
    6556.37,
    1.85,
    peaks=(
        Peak(6560.03, 0.266, 1.68),
        Peak(6541.95, 0.086, 1.40),
        Peak(6554.34, 0.430, 2.94),
        Peak(6564.05, 0.234, 3.80),
    ),
    shells=(Shell(0.938, 1.298, 2.66), Shell(0.125, 3.090, -0.46)),
    damping_a2=0.0368,
)

LAYERED_OXIDE: Mapping[str, ChargeSeries] = MappingProxyType(
    {
        "Ni": ChargeSeries(_NI_3, _NI_4),
        "Mn": ChargeSeries(_MN_4, _MN_4_CHARGED),
        "Co": ChargeSeries(_CO_3, _CO_4),
    }
)
"""The three metals of a layered LiMO2 from discharged (state of charge 0) to charged (1): on charge the Ni
half-jump moves by 1.4 eV and its white line by 2.5 eV, Co by about a third of that, Mn (4+ throughout) hardly."""

COMPOUNDS: Mapping[str, Compound] = MappingProxyType(
    {
        "Ni": Compound(
            "Ni",
            {"Ni": 1},
            8.908,
            Lineshape(
                8337.67,
                2.11,
                peaks=(
                    Peak(8349.90, 0.150, 2.69),
                    Peak(8334.10, 0.181, 1.45),
                    Peak(8341.46, -0.300, 3.50),
                    Peak(8355.00, -0.093, 12.00),
                ),
                shells=(Shell(1.014, 1.765, 4.30), Shell(1.200, 2.111, 5.21)),
                damping_a2=0.0199,
            ),
        ),
        "NiO": Compound(
            "Ni",
            {"Ni": 1, "O": 1},
            6.67,
            Lineshape(
                8341.42,
                1.25,
                peaks=(
                    Peak(8350.56, 0.573, 3.27),
                    Peak(8333.00, 0.015, 0.90),
                    Peak(8343.28, -0.300, 1.74),
                    Peak(8361.71, -0.192, 2.41),
                ),
                shells=(Shell(0.540, 1.518, 2.29), Shell(0.338, 2.483, 0.99)),
                damping_a2=0.0136,
            ),
        ),
        "LiNiO2": Compound("Ni", {"Li": 1, "Ni": 1, "O": 2}, 4.78, _NI_3),
        "NiO2": Compound("Ni", {"Ni": 1, "O": 2}, 4.45, _NI_4),
        "Co": Compound(
            "Co",
            {"Co": 1},
            8.90,
            Lineshape(
                7713.00,
                1.90,
                peaks=(
                    Peak(7729.57, 0.329, 4.50),
                    Peak(7710.10, 0.223, 1.49),
                    Peak(7715.95, -0.300, 3.50),
                    Peak(7731.00, -0.231, 12.00),
                ),
                shells=(Shell(1.194, 1.835, 3.16), Shell(1.200, 2.217, 3.88)),
                damping_a2=0.0216,
            ),
        ),
        "CoO": Compound(
            "Co",
            {"Co": 1, "O": 1},
            6.44,
            Lineshape(
                7717.59,
                1.23,
                peaks=(
                    Peak(7726.27, 0.708, 3.34),
                    Peak(7709.20, 0.015, 0.90),
                    Peak(7719.31, -0.300, 1.56),
                    Peak(7736.50, -0.168, 2.51),
                ),
                shells=(Shell(0.459, 1.462, 2.60), Shell(0.391, 2.419, 1.96)),
                damping_a2=0.0143,
            ),
        ),
        "Co3O4": Compound(
            "Co",
            {"Co": 3, "O": 4},
            6.11,
            Lineshape(
                7718.24,
                1.36,
                peaks=(
                    Peak(7729.54, 0.570, 2.14),
                    Peak(7709.67, 0.031, 0.80),
                    Peak(7720.26, -0.300, 1.96),
                    Peak(7735.80, 0.066, 6.16),
                ),
                shells=(Shell(0.497, 1.349, 2.21), Shell(0.226, 2.441, 0.06)),
                damping_a2=0.0097,
            ),
        ),
        "LiCoO2": Compound("Co", {"Li": 1, "Co": 1, "O": 2}, 5.05, _CO_3),
        "Mn": Compound(
            "Mn",
            {"Mn": 1},
            7.44,
            Lineshape(
                6542.66,
                1.73,
                peaks=(
                    Peak(6557.45, 0.413, 4.50),
                    Peak(6539.96, 0.231, 1.32),
                    Peak(6546.29, -0.300, 3.50),
                    Peak(6561.00, -0.271, 12.00),
                ),
                shells=(Shell(1.077, 1.300, 0.50), Shell(0.618, 3.100, -1.05)),
                damping_a2=0.0500,
            ),
        ),
        "MnO": Compound(
            "Mn",
            {"Mn": 1, "O": 1},
            5.37,
            Lineshape(
                6544.21,
                0.98,
                peaks=(
                    Peak(6554.46, 0.698, 4.15),
                    Peak(6540.20, 0.015, 0.90),
                    Peak(6546.42, -0.236, 2.84),
                    Peak(6558.00, -0.300, 7.02),
                ),
                shells=(Shell(0.238, 1.734, 0.79), Shell(0.367, 2.552, 1.48)),
                damping_a2=0.0113,
            ),
        ),
        "Mn2O3": Compound(
            "Mn",
            {"Mn": 2, "O": 3},
            4.50,
            Lineshape(
                6552.75,
                1.29,
                peaks=(
                    Peak(6558.49, 0.178, 3.08),
                    Peak(6542.40, 0.020, 0.90),
                    Peak(6550.68, 0.443, 3.09),
                    Peak(6564.40, 0.045, 2.00),
                ),
                shells=(Shell(0.769, 1.300, 3.12), Shell(0.217, 2.835, -0.20)),
                damping_a2=0.0500,
            ),
        ),
        "MnO2": Compound("Mn", {"Mn": 1, "O": 2}, 5.03, _MN_4),
    }
)
"""Pure reference materials by name: foils, oxides and the two ends of the charge of LiNiO2."""


def edge_of_twin(written: str) -> str:
    """Return the one of the edges of the twin that is meant by "Ni K", "ni-k" or "Ni".

    Raises
    ------
    DeviceError
        There is none.
    """
    letters = "".join(filter(str.isalnum, str(written))).lower().removesuffix("edge")
    for edge, element in EDGE_ELEMENT.items():
        if letters in (element.lower(), f"{element.lower()}k"):
            return edge
    raise DeviceError(f"the twin has no edge {written!r}, choose one of {', '.join(EDGE_ELEMENT)}")
