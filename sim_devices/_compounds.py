"""Spectral parameters of the materials the twin is made of.

The shapes follow what is measured on layered oxides: on charge the Ni half-jump moves up by 1.3 eV and its white line by 2.6 eV, Co
about a third of that, Mn (4+ throughout) hardly. Edge positions are on the foil-calibrated axis.
"""

from collections.abc import Mapping
from types import MappingProxyType

from sim_devices._lineshape import ChargeSeries, Lineshape

__all__ = ["EDGE_ELEMENT", "LAYERED_OXIDE", "METALS"]

METALS: tuple[str, ...] = ("Ni", "Mn", "Co")
"""The absorbers of the electrode, in the order of the twin's maps."""

EDGE_ELEMENT: Mapping[str, str] = MappingProxyType({"Ni_K": "Ni", "Mn_K": "Mn", "Co_K": "Co"})
"""Edges the twin can be scanned across, and the element of each."""

LAYERED_OXIDE: Mapping[str, ChargeSeries] = MappingProxyType(
    {
        "Ni": ChargeSeries(
            discharged=Lineshape(
                step_ev=8345.20,
                step_width_ev=2.05,
                white_ev=8352.45,
                white_height=0.72,
                white_width_ev=2.95,
                shoulder_ev=8364.0,
                shoulder_height=-0.09,
                shoulder_width_ev=4.0,
                pre_ev=8333.6,
                pre_height=0.020,
                pre_width_ev=1.1,
                near_amplitude=0.75,
                near_distance_a=1.40,
                near_phase=2.25,
                far_amplitude=0.19,
                far_distance_a=2.36,
                far_phase=1.62,
                damping_a2=0.020,
            ),
            charged=Lineshape(
                step_ev=8346.40,
                step_width_ev=1.95,
                white_ev=8355.05,
                white_height=0.73,
                white_width_ev=3.20,
                shoulder_ev=8365.0,
                shoulder_height=-0.07,
                shoulder_width_ev=5.0,
                pre_ev=8334.5,
                pre_height=0.028,
                pre_width_ev=1.1,
                near_amplitude=0.80,
                near_distance_a=1.40,
                near_phase=1.95,
                far_amplitude=0.26,
                far_distance_a=2.31,
                far_phase=1.64,
                damping_a2=0.020,
            ),
        ),
        "Mn": ChargeSeries(
            discharged=Lineshape(
                step_ev=6552.90,
                step_width_ev=2.05,
                white_ev=6559.85,
                white_height=0.30,
                white_width_ev=1.80,
                shoulder_ev=6563.7,
                shoulder_height=0.22,
                shoulder_width_ev=3.4,
                pre_ev=6541.8,
                pre_height=0.090,
                pre_width_ev=1.5,
                near_amplitude=0.66,
                near_distance_a=1.40,
                near_phase=1.75,
                far_amplitude=0.10,
                far_distance_a=2.46,
                far_phase=1.04,
                damping_a2=0.020,
            ),
            charged=Lineshape(
                step_ev=6552.95,
                step_width_ev=2.05,
                white_ev=6559.97,
                white_height=0.30,
                white_width_ev=1.85,
                shoulder_ev=6563.9,
                shoulder_height=0.21,
                shoulder_width_ev=3.4,
                pre_ev=6541.8,
                pre_height=0.095,
                pre_width_ev=1.5,
                near_amplitude=0.67,
                near_distance_a=1.40,
                near_phase=1.73,
                far_amplitude=0.10,
                far_distance_a=2.45,
                far_phase=1.04,
                damping_a2=0.020,
            ),
        ),
        "Co": ChargeSeries(
            discharged=Lineshape(
                step_ev=7721.80,
                step_width_ev=2.40,
                white_ev=7728.35,
                white_height=0.58,
                white_width_ev=2.40,
                shoulder_ev=7732.5,
                shoulder_height=0.14,
                shoulder_width_ev=3.2,
                pre_ev=7710.2,
                pre_height=0.035,
                pre_width_ev=1.3,
                near_amplitude=0.90,
                near_distance_a=1.40,
                near_phase=2.09,
                far_amplitude=0.33,
                far_distance_a=2.29,
                far_phase=1.70,
                damping_a2=0.020,
            ),
            charged=Lineshape(
                step_ev=7722.20,
                step_width_ev=2.45,
                white_ev=7729.30,
                white_height=0.60,
                white_width_ev=2.50,
                shoulder_ev=7733.5,
                shoulder_height=0.13,
                shoulder_width_ev=3.4,
                pre_ev=7710.5,
                pre_height=0.042,
                pre_width_ev=1.3,
                near_amplitude=0.92,
                near_distance_a=1.40,
                near_phase=1.98,
                far_amplitude=0.34,
                far_distance_a=2.27,
                far_phase=1.70,
                damping_a2=0.020,
            ),
        ),
    }
)
"""Lineshapes of the three metals of a layered LiMO2 from discharged (state of charge 0) to charged (1)."""
