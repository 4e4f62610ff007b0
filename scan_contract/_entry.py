"""What the parts of a contract have in common."""

from pydantic import BaseModel, ConfigDict

__all__ = ["Entry"]


class Entry(BaseModel):
    """A part of a contract: not to be changed, open for what others add, of finite numbers."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
