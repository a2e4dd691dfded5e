"""Result files: written whole or not at all, and the same bytes for the same content."""

import io
import json
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from torch import Tensor


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; move it there when the block ends, remove it if it fails.

    A killed process leaves a hidden `.partial` file at most, never half a result.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{os.getpid()}.partial.{path.name}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def must_exist(path: Path) -> Path:
    """Return `path`; FileNotFoundError with the command that makes it if it is not there."""
    if not path.exists():
        raise FileNotFoundError(f"expected a file at {path}; run `dvc repro` to make it")
    return path


def write_json(content: object, path: Path) -> None:
    """Write JSON with sorted keys. ValueError for NaN and infinity, which JSON does not have."""
    with whole(path) as partial:
        partial.write_text(json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")


def write_csv(rows: list[dict] | pd.DataFrame, path: Path) -> None:
    """Write a table, one observation a row. ValueError for an empty one."""
    table = pd.DataFrame(rows)
    if table.empty:
        raise ValueError(f"expected at least one row for {path}, got none")
    with whole(path) as partial:
        table.to_csv(partial, index=False)


def write_arrays(arrays: dict[str, np.ndarray], path: Path) -> None:
    """Write arrays as compressed .npz, readable without torch.

    Not by `np.savez_compressed`: its headers, and so the file's hash, change with the patch version of Python.
    """
    with whole(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue(), zipfile.ZIP_DEFLATED)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read what `write_arrays` wrote. Nothing is ever unpickled."""
    with np.load(must_exist(path), allow_pickle=False) as arrays:
        return dict(arrays)


def write_tensors(tensors: "dict[str, Tensor]", path: Path, metadata: dict) -> None:
    """Write tensors and JSON metadata as safetensors."""
    from safetensors.torch import save_file  # loads torch, which those who read tables should not wait for

    dense = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with whole(path) as partial:
        save_file(dense, partial, metadata={"json": json.dumps(metadata, sort_keys=True)})
        partial.chmod(0o644)


def read_tensors(path: Path) -> "tuple[dict[str, Tensor], dict]":
    """Read what `write_tensors` wrote: tensors and metadata. Nothing is ever unpickled."""
    from safetensors import safe_open
    from safetensors.torch import load_file

    with safe_open(must_exist(path), "pt") as file:
        metadata = json.loads(file.metadata()["json"])
    return load_file(path), metadata
