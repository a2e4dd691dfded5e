"""Training jobs, the store of finished jobs, and the hardware that they run on."""
