"""Write result files, whole or not at all, and read them.

The same content gives the same bytes.
"""

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
    """Yield a temporary path beside `path`, and move the file there to `path` when the block ends.

    After an error the temporary file is deleted. If the process is killed, a hidden `.partial` file can remain, but
    never half a result.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{os.getpid()}.partial.{path.name}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


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
    """Write tensors and JSON metadata as safetensors."""
    from safetensors.torch import save_file  # imports torch, which readers of tables do not need

    dense = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with whole(path) as partial:
        save_file(dense, partial, metadata={"json": json.dumps(metadata, sort_keys=True)})
        partial.chmod(0o644)


def read_tensors(path: Path) -> "tuple[dict[str, Tensor], dict]":
    """Return the tensors and metadata that `write_tensors` wrote.

    Nothing is unpickled.
    """
    from safetensors import safe_open
    from safetensors.torch import load_file

    with safe_open(must_exist(path), "pt") as file:
        metadata = json.loads(file.metadata()["json"])
    return load_file(path), metadata
