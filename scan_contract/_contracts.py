"""The contracts of all techniques, under one version."""

from collections.abc import Mapping
from types import MappingProxyType

from ._contract import Contract
from ._full_field_contract import FullFieldContract
from ._point_contract import PointContract
from ._soft_contract import SoftContract
from ._soft_image_contract import StxmContract, XpeemContract
from ._tomography_contract import TomographyContract
from ._xrf_contract import XRFContract

CONTRACTS: Mapping[str, type[Contract]] = MappingProxyType(
    {
        "full_field": FullFieldContract,
        "xas": PointContract,
        "soft_xas": SoftContract,
        "tomography": TomographyContract,
        "xrf": XRFContract,
        "stxm": StxmContract,
        "xpeem": XpeemContract,
    }
)
"""Contracts of the techniques by name."""
