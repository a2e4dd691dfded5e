"""Restricted ImageNet at 64 pixels, for machines without a GPU."""

from dataclasses import replace

from robacc.datasets import restricted_imagenet

FACTS = replace(
    restricted_imagenet.FACTS,
    title="Restricted ImageNet (64 px)",
    letter="c",
    size=64,
    stored="in_memory",
    differences=[("image size", "64 px", "224 px")],
)
