"""Contracts written into start documents and read from them, of this version and of version 1."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ._contract import CONTRACT_KEY, SCHEMA_VERSION, Contract
from ._contracts import CONTRACTS
from ._one_sentence import first_problem
from ._provenance import (
    PROVENANCE_KEYS,
    read_provenance,
)
from .errors import ContractError

__all__ = ["RunContract", "is_energy_scan", "make_contract", "read_contract"]

# What version 1 called things.
_OLD_POINT_KEY = "xas"
_OLD_TECHNIQUES = {"txm_transmission": "full_field"}


@dataclass(frozen=True)
class RunContract:
    """A run's contract with what else its start document says of it.

    Attributes
    ----------
    raw_uid, scan_group : str
        Uid of the run, and of the measurement it belongs to.
    scan : Contract
        The contract, as the model of its technique; the general one for a technique that is not known.
    is_standard : bool
        Whether the sample is a bulk standard of known state of charge.
    start : mapping
        The start document.
    """

    raw_uid: str
    scan_group: str
    scan: Contract
    is_standard: bool
    start: Mapping[str, Any] = field(repr=False)


def is_energy_scan(start: Any) -> bool:
    """Return whether a start document opens an energy scan that keeps a contract of any technique."""
    if not isinstance(start, Mapping):
        return False
    block = start.get(CONTRACT_KEY, start.get(_OLD_POINT_KEY))
    return isinstance(block, Mapping) and "schema_version" in block


ContractT = TypeVar("ContractT", bound=Contract)


def make_contract(model: type[ContractT], **entries: Any) -> ContractT:
    """Make a contract to write.

    Parameters
    ----------
    model : type of Contract
        The technique's.
    **entries
        Its parts.

    Raises
    ------
    ContractError
        In one sentence, where a part cannot be what its name says.
    """
    try:
        return model(**entries)
    except ValidationError as error:
        raise ContractError(first_problem(error)) from None


def read_contract(
    start: Mapping[str, Any], contracts: Mapping[str, type[Contract]] = CONTRACTS
) -> RunContract:
    """Read the contract from a start document, of this version or of version 1.

    Parameters
    ----------
    start : mapping
        The start document.
    contracts : mapping of str to type of Contract
        The model of each technique.

    Returns
    -------
    RunContract

    Raises
    ------
    ContractError
        In one sentence, where the document says no contract, one of another version, or something that cannot be.
    """
    uid = str(start.get("uid", "?")) if isinstance(start, Mapping) else "?"
    if not is_energy_scan(start):
        raise ContractError(f"run {uid[:8]} says nothing of an energy scan in its start document")
    block = _current(start, uid)
    technique = block.get("technique")
    model = contracts.get(technique, Contract) if isinstance(technique, str) else Contract
    try:
        scan = model.model_validate(block)
    except ValidationError as error:
        raise ContractError(f"the contract of run {uid[:8]} cannot be used: {first_problem(error)}") from None
    group = start.get("scan_group", uid)
    return RunContract(
        raw_uid=uid,
        scan_group=group if isinstance(group, str) else uid,
        scan=scan,
        is_standard=isinstance(start.get("standard"), Mapping),
        start=start,
    )


def _current(start: Mapping[str, Any], uid: str) -> dict[str, Any]:
    """Return the block as this version writes it."""
    old_point = CONTRACT_KEY not in start
    block = {str(key): value for key, value in start[_OLD_POINT_KEY if old_point else CONTRACT_KEY].items()}
    version = block.get("schema_version")
    if version == 1:
        block["schema_version"] = SCHEMA_VERSION
        if old_point:
            block["technique"] = "xas"
        else:
            technique = block.get("technique", "txm_transmission")
            block["technique"] = (
                _OLD_TECHNIQUES.get(technique, technique) if isinstance(technique, str) else technique
            )
        for name in PROVENANCE_KEYS:
            block.pop(name, None)
    elif version != SCHEMA_VERSION:
        raise ContractError(
            f"run {uid[:8]} follows version {version!r} of the contract and this software reads 1 and "
            f"{SCHEMA_VERSION}; analyse it with the release that recorded it"
        )
    devices = block.get("devices")
    if isinstance(devices, Mapping):
        block["devices"] = {str(role): None if name is None else str(name) for role, name in devices.items()}
    for name in PROVENANCE_KEYS:
        if block.get(name) is None:
            block[name] = _said_beside(name, start)
    return block


def _said_beside(name: str, start: Mapping[str, Any]) -> BaseModel | None:
    """Read what stands beside the contract, as a user or the RunEngine's own metadata wrote it.

    What cannot be read is not in the way.
    """
    try:
        return read_provenance(start, (name,))[name]
    except ContractError:
        return read_provenance({name: str(start[name])}, (name,))[name]
