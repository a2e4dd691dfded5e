"""Write result files, whole or not at all, and read them.

The same content gives the same bytes.
"""

import errno
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`, and move the file there to `path` when the block ends.

    After an error the temporary file is deleted. If the process is killed, a hidden `.partial` file can remain, but
    never half a result. The content reaches the disk before the name does, so a power cut leaves no empty result.
    Raises OSError with `path` in it if the disk is full or the folder cannot be written.
    """
    partial = path.with_name(f".{os.getpid()}.partial.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        other = error.filename and Path(error.filename) not in (partial, *path.parents)
        if error.errno is None or other:  # not of this file
            raise
        raise OSError(f"cannot write {path}: {error.strerror}; nothing is lost; mend that, and run again") from error
    finally:
        with suppress(OSError):  # it was moved, or its folder is not there
            partial.unlink()


def must_exist(path: Path) -> Path:
    """Return `path`.

    Raises FileNotFoundError, with the command that makes the file, if it does not exist.
    """
    if not path.exists():
        raise FileNotFoundError(f"expected a file at {path}; run `dvc repro` to make it")
    return path


def write_text(text: str, path: Path) -> None:
    """Write text in UTF-8."""
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(content: object, path: Path) -> None:
    """Write JSON with sorted keys.

    Raises ValueError for NaN and infinity, which JSON does not have.
    """
    write_text(json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n", path)


def write_csv(rows: list[dict] | pd.DataFrame, path: Path) -> None:
    """Write a table with one observation in each row.

    Raises ValueError for an empty table.
    """
    table = pd.DataFrame(rows)
    if table.empty:
        raise ValueError(f"expected at least one row for {path}, got none")
    with whole(path) as partial:
        table.to_csv(partial, index=False)


def write_arrays(arrays: dict[str, np.ndarray], path: Path) -> None:
    """Write arrays as compressed .npz, readable without torch.

    `np.savez_compressed` is not used. Its headers, and so the hash of the file, change with Python's patch version.
    """
    with whole(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue(), zipfile.ZIP_DEFLATED)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays that `write_arrays` wrote.

    Nothing is unpickled.
    """
    with np.load(must_exist(path), allow_pickle=False) as arrays:
        return dict(arrays)


def write_tensors(tensors: "dict[str, Tensor]", path: Path, metadata: dict) -> None:
    """Write tensors and JSON metadata as safetensors, with a hash of both."""
    from safetensors import SafetensorError  # imports torch, which readers of tables do not need
    from safetensors.torch import save_file

    dense = {name: tensor.contiguous() for name, tensor in tensors.items()}
    # All in one entry, as safetensors writes several in any order.
    header = json.dumps({"content": _content(dense, metadata), "metadata": metadata}, sort_keys=True)
    with whole(path) as partial:
        try:
            save_file(dense, partial, metadata={"json": header})
        except SafetensorError as error:  # of a full disk
            raise OSError(errno.EIO, str(error)) from error
        partial.chmod(0o644)


def read_tensors(path: Path) -> "tuple[dict[str, Tensor], dict]":
    """Return the tensors and metadata that `write_tensors` wrote.

    Nothing is unpickled. Raises ValueError for a damaged file, or one of another program.
    """
    return tensors_in(must_exist(path).read_bytes(), path)


def tensors_in(content: bytes, path: Path) -> "tuple[dict[str, Tensor], dict]":
    """Return the tensors and metadata in the `content` of the file `path`, as `read_tensors` does."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        said = json.loads(header["__metadata__"]["json"])
        undamaged = said["content"] == _content(tensors, said["metadata"])
    except (SafetensorError, ValueError, KeyError, TypeError):
        undamaged = False
    if not undamaged:
        raise ValueError(f"expected {path} as it was written, got damaged or other content; remove it, and run again")
    return tensors, said["metadata"]


def _content(tensors: "dict[str, Tensor]", metadata: dict) -> str:
    """Return the SHA-256 of named tensors and metadata."""
    import torch

    about = {name: (str(tensor.dtype), list(tensor.shape)) for name, tensor in tensors.items()}
    digest = hashlib.sha256(json.dumps([about, metadata], sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
