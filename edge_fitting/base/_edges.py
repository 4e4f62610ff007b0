"""The absorption edges of Ni, Mn and Co and the energy windows used on them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

from edge_fitting.errors import EdgeFittingError

Window = tuple[float, float]
# The onset of an edge is this many core-hole widths below it.
_ONSET_WIDTHS = 5.0
_Value = TypeVar("_Value")


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
    def onset_ev(self) -> float:
        """Where the wings of the transitions to bound states begin, 1 to 2 eV wide."""
        return self.energy_ev - _ONSET_WIDTHS * self.core_width_ev

    @property
    def is_by_white_line(self) -> bool:
        """Whether the edge is detected and measured by its white line, many times as high as its step: L edges."""
        return self.level.startswith("L")

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


_SPELLING = re.compile(r"([a-z]{1,2})[\s_-]*([a-z][0-9]?)?(?:[\s_-]*edge)?", re.IGNORECASE)
_BETWEEN = re.compile(rf"[,;]|\s+(?=(?:{'|'.join(sorted({e.element for e in EDGES.values()}))})(?![a-z]))")


def edge_name(edge: object) -> str:
    """Return the key of an edge in :data:`EDGES` for a name as people write it.

    Parameters
    ----------
    edge : str
        Element and level in any case, joined by anything or nothing: "Ni_K", "ni-k", "NiK", "Mn L3"; an element
        alone stands for its K edge.

    Raises
    ------
    EdgeFittingError
        If there is no such edge; the message lists those there are.
    """
    found = _SPELLING.fullmatch(edge.strip()) if isinstance(edge, str) else None
    if found is not None:
        name = f"{found[1].capitalize()}_{(found[2] or 'K').upper()}"
        if name in EDGES:
            return name
    raise EdgeFittingError(
        f"there is no edge {edge!r}: use Ni, Co or Mn for a K edge, or one of {', '.join(EDGES)}."
    )


def edge_names(edges: str | Iterable[str]) -> list[str]:
    """Return the keys of several edges, given as a list or as one text ("Ni, Mn K").

    Raises
    ------
    EdgeFittingError
        If one of them is unknown, none is named, or one is named twice.
    """
    given: Iterable[object]
    if isinstance(edges, str):
        given = [part for part in _BETWEEN.split(edges) if part.strip()]
    else:
        given = edges if isinstance(edges, Iterable) else [edges]
    names = [edge_name(edge) for edge in given]
    if not names:
        raise EdgeFittingError("there is no edge to measure: name at least one.")
    if len(set(names)) != len(names):
        raise EdgeFittingError(f"an edge is named twice in {', '.join(names)}: name each once.")
    return names


def keyed_by_edge(given: Mapping[str, _Value]) -> dict[str, _Value]:
    """Return a mapping whose keys are edges, each under its key in :data:`EDGES`.

    Raises
    ------
    EdgeFittingError
        If a key is no edge, or two mean the same one.
    """
    return dict(zip(edge_names(given) if given else (), given.values(), strict=True))


def resolve_edge(edge: str | Edge) -> Edge:
    """Look an edge up by any of its names, see `edge_name`; an :class:`Edge` is returned as it is.

    Raises
    ------
    EdgeFittingError
        If no edge has that name.
    """
    return edge if isinstance(edge, Edge) else EDGES[edge_name(edge)]
