"""Read the file of an image set, in memory or on disk."""

from functools import lru_cache
from importlib import import_module
from pathlib import Path

from robacc.files import must_exist, read_tensors
from robacc.images import in_memory
from robacc.images.sets import ImageSet


def load(path: Path) -> ImageSet:
    """Return an image set that `in_memory.save` or `on_disk.save` wrote.

    Raises ValueError if the content is not what was saved. The last two sets stay in memory, so that forked processes
    share them.
    """
    state = must_exist(path).stat()
    # Links are not followed: DVC's lead into its cache, and a list of files belongs to the folders around it.
    return _read(path.absolute(), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=2)
def _read(path: Path, _mtime: int, _size: int) -> ImageSet:
    tensors, metadata = read_tensors(path)
    if "x" in tensors:
        return in_memory.of_tensors(tensors, metadata)
    # The import by name avoids torchvision. A change to that module retrains no net on a set in memory.
    on_disk = import_module("robacc.images.on_disk")
    return on_disk.of_table(tensors, metadata, path.parent.parent / "incoming" / path.parent.name)
