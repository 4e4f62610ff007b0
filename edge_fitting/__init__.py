"""Absorption-edge fitting of every pixel of an energy scan: numpy and numba only."""
