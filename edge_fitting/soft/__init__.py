"""Soft X-ray absorption: L2,3 edges and the K edge of oxygen in yields of different depth."""

from ._axis import LineAxis, line_axis
from ._components import Component, ComponentFit, fit_components, saturated, unsaturated
from ._describe import SATURATION, Number, SoftYieldFit, clipped, describe_yield
from ._layer import DEPTHS_NM, ReducedLayer, reduced_layer
from ._open_beam import BareRegion, bare_region
from ._soft_edges import SOFT_EDGES, SoftEdge, edge_among, soft_edge
from ._stack import SoftMaps, fit_soft_stack
from ._thickness import edge_step_per_nm

__all__ = [
    "DEPTHS_NM",
    "SATURATION",
    "SOFT_EDGES",
    "BareRegion",
    "Component",
    "ComponentFit",
    "LineAxis",
    "Number",
    "ReducedLayer",
    "SoftEdge",
    "SoftMaps",
    "SoftYieldFit",
    "bare_region",
    "clipped",
    "describe_yield",
    "edge_among",
    "edge_step_per_nm",
    "fit_components",
    "fit_soft_stack",
    "line_axis",
    "reduced_layer",
    "saturated",
    "soft_edge",
    "unsaturated",
]
