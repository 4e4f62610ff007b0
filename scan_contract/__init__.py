"""What a run says about itself: start document per technique, labels of its events, and a validator.

Plans write with it; callbacks, replay, progress and the queue server read with it. It imports no other package
of the project; every package can therefore say with it which extra brings what is missing.
"""

from ._constants import HC_EV_ANGSTROM
from ._contract import CONTRACT_KEY, SCHEMA_VERSION, Contract
from ._contracts import CONTRACTS
from ._full_field_contract import FlatOrder, FullFieldContract
from ._labels import (
    ALL_ENERGIES,
    LABEL_DEVICE,
    STREAMS,
    Label,
    Shot,
    label_data_keys,
    read_label,
    read_shot,
    shot_values,
)
from ._optional_packages import optional_import, require_packages
from ._point_contract import SWEEP_AXIS, Anchors, Flight, PointContract
from ._provenance import (
    PROVENANCE_KEYS,
    FieldOfView,
    Proposal,
    ReferenceSource,
    Sample,
    read_provenance,
)
from ._read_contract import RunContract, is_energy_scan, make_contract, read_contract
from ._saturation import saturation_of
from ._soft_contract import SoftContract
from ._soft_image_contract import FocusTable, SoftImageContract, StxmContract, XpeemContract
from ._spectrum import StoredSpectrum
from ._tomography_contract import ANGLE_AXIS, AngleOrder, TomographyContract
from ._unit_slips import LONGEST_EXPOSURE_S, exposure_slip, pixel_size_slip
from ._validator import validate_run_documents
from ._xrf_contract import COLUMN_AXIS, ROW_AXIS, CompositionSeries, FilmStandard, McaCalibration, XRFContract
from .errors import ContractError, MissingPackageError

__all__ = [
    "ALL_ENERGIES",
    "ANGLE_AXIS",
    "COLUMN_AXIS",
    "CONTRACTS",
    "CONTRACT_KEY",
    "HC_EV_ANGSTROM",
    "LABEL_DEVICE",
    "LONGEST_EXPOSURE_S",
    "PROVENANCE_KEYS",
    "ROW_AXIS",
    "SCHEMA_VERSION",
    "STREAMS",
    "SWEEP_AXIS",
    "Anchors",
    "AngleOrder",
    "CompositionSeries",
    "Contract",
    "ContractError",
    "FieldOfView",
    "FilmStandard",
    "FlatOrder",
    "Flight",
    "FocusTable",
    "FullFieldContract",
    "Label",
    "McaCalibration",
    "MissingPackageError",
    "PointContract",
    "Proposal",
    "ReferenceSource",
    "RunContract",
    "Sample",
    "Shot",
    "SoftContract",
    "SoftImageContract",
    "StoredSpectrum",
    "StxmContract",
    "TomographyContract",
    "XRFContract",
    "XpeemContract",
    "exposure_slip",
    "is_energy_scan",
    "label_data_keys",
    "make_contract",
    "optional_import",
    "pixel_size_slip",
    "read_contract",
    "read_label",
    "read_provenance",
    "read_shot",
    "require_packages",
    "saturation_of",
    "shot_values",
    "validate_run_documents",
]
