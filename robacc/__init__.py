"""Robustness against accuracy: the science of Tsipras et al., ICLR 2019, as a small library.

Each module is about one noun (see docs/rooms.md). Images are float32 in [0, 1] everywhere outside a model,
and every `eps` is in those units. This package imports nothing, so `import robacc` is instant.
"""
