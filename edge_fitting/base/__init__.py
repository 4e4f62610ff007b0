"""What all estimators share: edges, maps, checks of input, noise."""

from ._athena import AthenaGroup, read_athena_project, write_athena_project
from ._checks import (
    LAYOUT,
    check_energies,
    check_exact_stack,
    check_frame,
    check_shape,
    check_stack,
    check_weights,
)
from ._constants import FWHM_PER_SIGMA, IQR_PER_SIGMA, MAD_TO_SIGMA
from ._edges import EDGES, Edge, Window, edge_name, edge_names, keyed_by_edge, resolve_edge
from ._launch import launch, read_only
from ._maps import EdgeMaps, FitStatus
from ._noise import detection_threshold, needs_neighbours, noise_of_differences, pool_variance
from ._text_table import TextTable, Title, read_text_table

__all__ = [
    "EDGES",
    "FWHM_PER_SIGMA",
    "IQR_PER_SIGMA",
    "LAYOUT",
    "MAD_TO_SIGMA",
    "AthenaGroup",
    "Edge",
    "EdgeMaps",
    "FitStatus",
    "TextTable",
    "Title",
    "Window",
    "check_energies",
    "check_exact_stack",
    "check_frame",
    "check_shape",
    "check_stack",
    "check_weights",
    "detection_threshold",
    "edge_name",
    "edge_names",
    "keyed_by_edge",
    "launch",
    "needs_neighbours",
    "noise_of_differences",
    "pool_variance",
    "read_athena_project",
    "read_only",
    "read_text_table",
    "resolve_edge",
    "write_athena_project",
]
