"""Edge step of a material in absolute units, from tabulated cross-sections."""

from __future__ import annotations

from edge_fitting.errors import EdgeFittingError
from scan_contract import optional_import

from ._soft_edges import SoftEdge

__all__ = ["edge_step_per_nm"]

_CM_PER_NM = 1e-7
# The tables smear an edge over some 30 eV, and a power of the energy carries absorption on across it.
_BELOW_EV, _ABOVE_EV, _POWER = 100.0, 50.0, -2.8


def edge_step_per_nm(edge: SoftEdge, formula: str, density_g_cm3: float) -> float:
    """Return the optical depth that an edge adds per nanometre of a material, far above it (both steps of an L edge).

    Elam's tables as given by xraydb; absorption below the edge is carried on as a power of the energy. Tables differ by
    10 to 20 % near L edges (Chantler's are higher), which is a common factor of all thicknesses.

    Parameters
    ----------
    edge : SoftEdge
        The edge.
    formula : str
        Such as "LiNi0.6Mn0.2Co0.2O2".
    density_g_cm3 : float
        Density.

    Raises
    ------
    EdgeFittingError
        The formula has no such element, or is none.
    MissingPackageError
        xraydb is not installed.
    """
    with optional_import("sim", "thickness in nanometres"):
        import xraydb

    try:
        atoms = xraydb.chemparse(formula)
    except ValueError as error:
        raise EdgeFittingError(f"{formula!r} is no chemical formula ({error}).") from None
    if edge.element not in atoms:
        raise EdgeFittingError(f"{formula} holds no {edge.element}: its {edge.name} edge gives no thickness.")
    mass = {name: count * float(xraydb.atomic_mass(name)) for name, count in atoms.items()}
    first = float(xraydb.xray_edge(edge.element, "K" if edge.l2_ev is None else "L3").energy)
    last = first if edge.l2_ev is None else float(xraydb.xray_edge(edge.element, "L2").energy)
    below, above = first - _BELOW_EV, last + _ABOVE_EV
    carried_on = float(xraydb.mu_elam(edge.element, below)) * (above / below) ** _POWER
    step = float(xraydb.mu_elam(edge.element, above)) - carried_on
    return float(step * mass[edge.element] / sum(mass.values()) * density_g_cm3 * _CM_PER_NM)
