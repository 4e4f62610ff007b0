"""The techniques that are analysed, live and from what is stored."""

from ._full_field import FULL_FIELD
from ._soft_xas import SOFT_XAS
from ._stxm import STXM
from ._technique import Technique
from ._tomography import TOMOGRAPHY
from ._xas import XAS
from ._xpeem import XPEEM
from ._xrf import XRF

KNOWN_TECHNIQUES: tuple[Technique, ...] = (FULL_FIELD, XAS, SOFT_XAS, XRF, TOMOGRAPHY, STXM, XPEEM)
