"""Exceptions of the package."""


class EdgeFittingError(ValueError):
    """An input that cannot be fitted; the message is one sentence that says what is wrong and what to do."""
