"""Image sets in memory or on disk, and the batches of training."""
