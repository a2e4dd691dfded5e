"""Set the environment variables of a stage, so that no result depends on those of its user.

A user sets most of these for other work. A stage keeps the paths, proxies and choice of a GPU.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Beginnings of what is left out: figures, notebooks, and the last bits or the precision of numbers hang on them.
LEFT_OUT = (
    *("PYTHON", "LC_", "LANG", "MPL", "MATPLOTLIB", "IPYTHON", "JUPYTER"),
    *("NUMBA_", "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "GOTO_", "ONEDNN_", "DNNL_", "ATEN_", "NPY_"),
    *("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"),
)
# Of Python's own, these say where its files are, or when it prints. No result depends on the seed of hashes.
KEPT = (
    *("PYTHONHOME", "PYTHONNOUSERSITE", "PYTHONPYCACHEPREFIX", "PYTHONDONTWRITEBYTECODE"),
    *("PYTHONUNBUFFERED", "PYTHONFAULTHANDLER", "PYTHONHASHSEED"),
)
RESTARTED = "ROBACC_RESTARTED"  # holds the id of a process that began again


def of_stage(given: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which a stage runs for a user who has `given`."""
    kept = {name: value for name, value in given.items() if name in KEPT or not name.startswith((*LEFT_OUT, RESTARTED))}
    # Libraries of other folders would take the place of those that requirements.lock names.
    paths = [path for path in given.get("PYTHONPATH", "").split(os.pathsep) if path]
    inside = [path for path in paths if Path(path).resolve().is_relative_to(ROOT)]
    return {
        **kept,
        **({"PYTHONPATH": os.pathsep.join(inside)} if inside else {}),
        "PYTHONUTF8": "1",
        "LC_ALL": "C.UTF-8",
        "OMP_NUM_THREADS": "1",  # the last bits of a sum depend on the number of threads
        "OPENBLAS_NUM_THREADS": "1",
        "IPYTHONDIR": str(ROOT / ".ipython"),
        "MPLCONFIGDIR": str(ROOT / ".ipython/profile_default"),
    }


def enter() -> None:
    """Start this program again in the environment of a stage, unless it runs in that already.

    Python and some libraries read their variables only when they start. Among these are assertions, encodings and
    where libraries are.
    """
    wanted, process = of_stage(os.environ), str(os.getpid())
    # Once at most: the interpreter may be a script that sets a variable each time.
    if os.environ != wanted and os.environ.get(RESTARTED) != process:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**wanted, RESTARTED: process})
    os.environ.clear()
    os.environ.update(wanted)
