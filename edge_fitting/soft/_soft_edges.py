"""The edges of soft X-ray absorption: L2,3 of the metals and K of oxygen, with the windows used on them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edge_fitting.base import EDGES, Window, edge_name
from edge_fitting.errors import EdgeFittingError

__all__ = ["FOREIGN_EDGES_EV", "SOFT_EDGES", "SoftEdge", "edge_among", "soft_edge"]


@dataclass(frozen=True, slots=True)
class SoftEdge:
    """One soft edge; energies in eV, windows inclusive.

    Attributes
    ----------
    name, element : str
        Key of `SOFT_EDGES`, and chemical symbol.
    energy_ev : float
        Tabulated energy of L3, or of K.
    l2_ev : float or None
        Tabulated energy of L2; None for a K edge.
    pre_edge_ev, post_edge_ev : tuple of float
        Where the line below and the level above are taken.
    white_line_ev : tuple of float
        Where L3 has its white line; of oxygen, its transitions below the main edge.
    low_ev, high_ev : tuple of float
        Where the two maxima of L3 are looked for.
    valley_ev : float
        Between L3 and L2; above the transitions below the main edge of oxygen.
    reaches_ev : tuple of float
        What belongs to a sweep of the edge.
    """

    name: str
    element: str
    energy_ev: float
    l2_ev: float | None
    pre_edge_ev: Window
    post_edge_ev: Window
    white_line_ev: Window
    low_ev: Window
    high_ev: Window
    valley_ev: float
    reaches_ev: Window


def _l_edge(element: str, l3: float, l2: float, low: Window, high: Window) -> SoftEdge:
    return SoftEdge(
        name=f"{element}_L3",
        element=element,
        energy_ev=l3,
        l2_ev=l2,
        pre_edge_ev=(l3 - 40.0, l3 - 4.0),
        post_edge_ev=(l2 + 9.0, l2 + 60.0),
        white_line_ev=(low[0], high[1] + 1.5),
        low_ev=low,
        high_ev=high,
        # The wing of L3 reaches further than the foot of L2.
        valley_ev=l3 + 0.7 * (l2 - l3),
        reaches_ev=(l3 - 60.0, l2 + 80.0),
    )


#: Soft edges by name; an L3 edge stands for L3 and L2 together.
SOFT_EDGES: Mapping[str, SoftEdge] = MappingProxyType(
    {
        "Ni_L3": _l_edge("Ni", 852.7, 870.0, (851.3, 854.2), (854.2, 857.5)),
        "Co_L3": _l_edge("Co", 778.1, 793.2, (776.5, 779.5), (779.5, 783.0)),
        "Mn_L3": _l_edge("Mn", 638.7, 649.9, (638.7, 642.3), (642.3, 645.5)),
        "Fe_L3": _l_edge("Fe", 706.8, 719.9, (706.3, 708.9), (708.9, 711.5)),
        "O_K": SoftEdge(
            name="O_K",
            element="O",
            energy_ev=543.1,
            l2_ev=None,
            pre_edge_ev=(505.0, 526.3),
            post_edge_ev=(550.0, 590.0),
            white_line_ev=(527.0, 534.0),
            low_ev=(527.0, 530.2),
            high_ev=(530.2, 534.0),
            valley_ev=534.0,
            reaches_ev=(490.0, 620.0),
        ),
    }
)

#: Edges of what else an electrode holds: fluoride of binder and salt, and the neighbours of the metals.
FOREIGN_EDGES_EV: Mapping[str, float] = MappingProxyType(
    {
        "O K": 529.0,
        "Mn L3": 638.7,
        "F K": 688.0,
        "Fe L3": 706.8,
        "Co L3": 778.1,
        "Ni L3": 852.7,
        "Cu L3": 932.0,
    }
)


def soft_edge(name: str | SoftEdge) -> SoftEdge:
    """Look a soft edge up by its name as people write it: "Ni_L3", "ni l", "NiL2,3", "O", "O K".

    Raises
    ------
    EdgeFittingError
        If there is none.
    """
    if isinstance(name, SoftEdge):
        return name
    letters = "".join(part for part in str(name) if part.isalpha()).lower().removesuffix("edge")
    for edge in SOFT_EDGES.values():
        level = "k" if edge.l2_ev is None else "l"
        if letters in (edge.element.lower() + level, edge.element.lower()):
            return edge
    raise EdgeFittingError(
        f"there is no soft edge {name!r}: use one of {', '.join(SOFT_EDGES)}, of which an L3 edge stands for L3 and L2."
    )


def edge_among(written: str, names: Collection[str]) -> str:
    """Return the one of some names that is meant by an edge as people write it: "Ni K", "ni-l3", "O K", "ok".

    Parameters
    ----------
    written : str
        What was written.
    names : collection of str
        Keys of `EDGES` or `SOFT_EDGES`, or other names, which are meant by themselves only.

    Returns
    -------
    str
        That of `names`; where none of them is meant, the key of the edge, which is not among them.

    Raises
    ------
    EdgeFittingError
        There is no such edge.
    """
    if written in names:
        return written
    found: list[str] = []
    for lookup in (edge_name, lambda name: soft_edge(name).name):
        try:
            found.append(lookup(written))
        except EdgeFittingError:
            continue
    if not found:
        raise EdgeFittingError(f"there is no edge {written!r}: use one of {', '.join((*EDGES, 'O_K'))}.")
    return next((name for name in found if name in names), found[0])
