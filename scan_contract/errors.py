"""The errors that every package of the project may meet."""

__all__ = ["ContractError", "MissingPackageError"]


class ContractError(ValueError):
    """A start document or an event that does not say what an energy scan has to say."""


class MissingPackageError(ImportError):
    """A package that an extra of the distribution brings, and that is not installed.

    Parameters
    ----------
    purpose : str
        What needs it, in the plural.
    package : str
        Name by which it is imported.
    extra : str
        The extra that brings it.
    why : str
        What is the matter with it.
    """

    def __init__(self, purpose: str, package: str, extra: str, why: str = "is not installed here") -> None:
        super().__init__(
            f"{purpose} need the package {package}, which {why}; run: pip install 'nimco[{extra}]'",
            name=package,
        )
