"""Keeping things: `records` (small, transactional) and `blobs` (large, streamed). Knows nothing of AWS."""
