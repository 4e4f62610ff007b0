"""The absorption edges of Ni, Mn and Co and the energy windows used on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ._errors import EdgeFittingError

Window = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Edge:
    """One absorption edge and the windows that the estimators search.

    All energies in eV on an axis calibrated so that the metal foil's first inflection is at
    ``foil_inflection_ev``. Windows are absolute and inclusive. Make a variant for another axis or
    another grid with :func:`dataclasses.replace`.

    Parameters
    ----------
    name : str
        Key in :data:`EDGES`, such as ``"Ni_K"``.
    element, level : str
        Chemical symbol and level (``"K"``, ``"L3"``, ``"L2"``).
    energy_ev : float
        Tabulated edge energy (Elam tables as given by xraydb).
    foil_inflection_ev : float
        First inflection of the metal foil by convention.
    core_width_ev : float
        Core-hole width (Krause and Oliver, as given by xraydb).
    half_jump_window_ev, white_line_window_ev : tuple of float
        Where the half-jump crossing or the inflection, and the top of the white line, are searched.
    pre_edge_ev, post_edge_ev : tuple of float
        Where the pre-edge line and the post-edge polynomial are fitted.
    """

    name: str
    element: str
    level: str
    energy_ev: float
    foil_inflection_ev: float
    core_width_ev: float
    half_jump_window_ev: Window
    white_line_window_ev: Window
    pre_edge_ev: Window
    post_edge_ev: Window

    @property
    def scan_limits_ev(self) -> Window:
        """Energies outside of these cannot belong to a scan of this edge."""
        if self.level == "K":
            return self.energy_ev - 1000.0, self.energy_ev + 2000.0
        return self.energy_ev - 150.0, self.energy_ev + 300.0


def _k_edge(
    element: str, energy_ev: float, core_width_ev: float, half_jump: Window, white_line: Window
) -> Edge:
    # The K core hole is about 1 eV wide: 20 eV below the edge its tail is under 1 % of the jump;
    # 80 eV above it the near-edge structure is over.
    return Edge(
        name=f"{element}_K",
        element=element,
        level="K",
        energy_ev=energy_ev,
        foil_inflection_ev=energy_ev,
        core_width_ev=core_width_ev,
        half_jump_window_ev=half_jump,
        white_line_window_ev=white_line,
        pre_edge_ev=(energy_ev - 300.0, energy_ev - 20.0),
        post_edge_ev=(energy_ev + 80.0, energy_ev + 600.0),
    )


def _l_edges(
    element: str, l3_ev: float, l2_ev: float, l3_width_ev: float, l2_width_ev: float
) -> tuple[Edge, Edge]:
    # The foot of a soft edge is gone 4.5 eV below it. L3 has only the gap up to L2 as its post-edge, and L2 has the
    # same gap as its pre-edge.
    l3 = Edge(
        name=f"{element}_L3",
        element=element,
        level="L3",
        energy_ev=l3_ev,
        foil_inflection_ev=l3_ev,
        core_width_ev=l3_width_ev,
        half_jump_window_ev=(l3_ev - 4.0, l3_ev + 4.0),
        white_line_window_ev=(l3_ev - 2.5, l3_ev + 5.5),
        pre_edge_ev=(l3_ev - 30.0, l3_ev - 4.5),
        post_edge_ev=(l3_ev + 5.5, l2_ev - 4.5),
    )
    l2 = Edge(
        name=f"{element}_L2",
        element=element,
        level="L2",
        energy_ev=l2_ev,
        foil_inflection_ev=l2_ev,
        core_width_ev=l2_width_ev,
        half_jump_window_ev=(l2_ev - 4.0, l2_ev + 4.0),
        white_line_window_ev=(l2_ev - 2.5, l2_ev + 5.5),
        pre_edge_ev=(l3_ev + 5.5, l2_ev - 4.5),
        post_edge_ev=(l2_ev + 8.0, l2_ev + 60.0),
    )
    return l3, l2


def _table() -> Mapping[str, Edge]:
    edges = [
        _k_edge("Ni", 8333.0, 1.44, (8336.0, 8350.0), (8346.0, 8359.0)),
        _k_edge("Co", 7709.0, 1.33, (7714.0, 7728.0), (7722.0, 7735.0)),
        _k_edge("Mn", 6539.0, 1.16, (6541.0, 6560.0), (6551.0, 6568.0)),
        *_l_edges("Ni", 852.7, 870.0, 0.48, 0.52),
        *_l_edges("Co", 778.1, 793.2, 0.43, 0.43),
        *_l_edges("Mn", 638.7, 649.9, 0.32, 0.34),
    ]
    return MappingProxyType({edge.name: edge for edge in edges})


#: The edges by name: ``"Ni_K"``, ``"Co_K"``, ``"Mn_K"`` and the L3 and L2 edges of the three elements.
EDGES: Mapping[str, Edge] = _table()


def resolve_edge(edge: str | Edge) -> Edge:
    """Look an edge up by name; an :class:`Edge` is returned as it is.

    Raises
    ------
    EdgeFittingError
        If no edge has that name.
    """
    if isinstance(edge, Edge):
        return edge
    if edge not in EDGES:
        raise EdgeFittingError(
            f"unknown edge {edge!r}: use one of {', '.join(EDGES)}, or an Edge of your own."
        )
    return EDGES[edge]
