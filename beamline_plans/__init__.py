"""Energy grids and bluesky plans for scans across absorption edges."""
