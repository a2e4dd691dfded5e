"""Run notebooks with papermill, those of one data set or the others: they read result files and draw figures."""

import argparse
import atexit
import os
import shutil
import tempfile
from functools import partial
from pathlib import Path

from stages import cli, identity


def kernel_of_this_python() -> type:
    """Return the kernel manager that starts the interpreter of this stage, whatever kernels a user has installed."""
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from traitlets import default

    class OfThisPython(AsyncKernelManager):
        @default("kernel_spec_manager")
        def _search_no_folder(self) -> KernelSpecManager:
            return KernelSpecManager(kernel_dirs=[])  # what is left is ipykernel beside this module

    return OfThisPython


def execute(source: Path, on_progress, *, folder: Path, sockets: Path, parameters: dict[str, str]) -> None:  # noqa: ANN001
    """Write `folder`/<name>.ipynb, executed, and the figures that the notebook saves."""
    import nbformat
    import papermill
    from nbclient.exceptions import DeadKernelError
    from traitlets.config import Config

    from robacc.files import whole

    # Kernels that start at once in two processes may choose the same port; sockets in files have no such race.
    by_file = Config({"KernelManager": {"transport": "ipc", "ip": str(sockets / source.stem)}})
    with whole(folder / source.name) as target:
        try:
            notebook = papermill.execute_notebook(
                source,
                None,
                parameters,
                kernel_name="python3",
                progress_bar=False,
                log_output=False,
                cwd=".",
                config=by_file,
                kernel_manager_class=kernel_of_this_python(),
            )
        except DeadKernelError:
            raise ChildProcessError(
                f"the kernel of {source} was killed, perhaps for lack of memory; set ROBACC_WORKERS lower, run again"
            ) from None
        strip(notebook)
        nbformat.write(notebook, target)
    on_progress(1)


def strip(notebook) -> None:  # noqa: ANN001
    """Remove times, machine facts and random ids, so that the same content gives the same bytes."""
    for key in ("papermill", "language_info", "kernelspec"):
        notebook.metadata.pop(key, None)
    for index, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{index}"
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)


def main(args: argparse.Namespace) -> None:
    """Write reports/notebooks/<dataset, or exact>/ and reports/figures/ there; the first error ends the stage."""
    from robacc.parallel import parallel

    parameters = {"dataset": args.dataset} if args.dataset else {}
    sources = identity.notebooks(args.dataset)
    folder = Path("reports/notebooks") / (args.dataset or "exact")
    # A short path, as that of a socket has at most 107 characters. Kernels use it until the last worker has ended.
    sockets = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, sockets, ignore_errors=True)
    # Of kernels; they need no home folder.
    os.environ |= {"PYTHONPATH": str(Path.cwd()), "JUPYTER_RUNTIME_DIR": str(sockets)}
    work = partial(execute, folder=folder, sockets=sockets, parameters=parameters)
    parallel(work, sources, units=[1] * len(sources), unit="notebooks", n_workers=cli.n_workers())


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__, "dataset", needs_dataset=False))
