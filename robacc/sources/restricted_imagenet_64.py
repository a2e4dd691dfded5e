"""Get Restricted ImageNet at 64 pixels, decoded once from the user's own copy of ImageNet."""

from collections.abc import Callable
from pathlib import Path

from robacc.datasets.restricted_imagenet_64 import FACTS
from robacc.images import in_memory
from robacc.sources.restricted_imagenet import SOURCE, missing, small_images, summary, user_copy


def store(out: Path, raw: Path, *, n_workers: int, report: Callable[[str], None]) -> None:
    """Write the splits train and test to `out`, with their missing classes."""
    splits = small_images(user_copy(), size=FACTS.size, n_workers=n_workers, report=report)
    for split, (x, y, paths) in splits.items():
        absent = missing(paths)
        report(summary(split, y.tolist(), absent))
        in_memory.save(x, y, out / f"{split}.safetensors", source=SOURCE, missing=absent)
