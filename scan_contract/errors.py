"""The error of documents that do not keep the contract."""

__all__ = ["ContractError"]


class ContractError(ValueError):
    """A start document or an event that does not say what an energy scan has to say."""
