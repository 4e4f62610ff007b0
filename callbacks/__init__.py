"""From bluesky documents to frames, fitted maps, Tiled and a live plot."""
