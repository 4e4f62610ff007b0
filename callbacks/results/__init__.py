"""What a result holds: one schema per technique."""

__all__ = []
