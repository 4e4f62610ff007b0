"""What a result of a technique holds: schemas that figures, Tiled, exports and readers take everything from."""

from ._result_schema import Field, ResultSchema, Role

__all__ = ["Field", "ResultSchema", "Role"]
