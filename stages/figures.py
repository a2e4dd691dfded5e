"""Run notebooks with papermill, for one data set where they take one: they read result files and draw figures."""

import argparse
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from stages import cli


def execute(source: Path, parameters: dict[str, str]) -> None:
    """Write reports/notebooks/<name>[-<dataset>].ipynb, executed, and the figures the notebook saves."""
    import nbformat
    import papermill
    from jupyter_core.utils import ensure_event_loop

    from robacc.files import must_exist, whole

    name = "-".join([source.stem, *parameters.values()])
    with whole(Path("reports/notebooks") / f"{name}.ipynb") as target, closing(ensure_event_loop()):  # this thread's
        notebook = papermill.execute_notebook(
            must_exist(source), None, parameters, kernel_name="python3", progress_bar=False, log_output=False, cwd="."
        )
        strip(notebook)
        nbformat.write(notebook, target)


def strip(notebook) -> None:  # noqa: ANN001
    """Remove times, machine facts and random ids, so that the same content gives the same bytes."""
    for key in ("papermill", "language_info", "kernelspec"):
        notebook.metadata.pop(key, None)
    for index, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{index}"
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)


def main(args: argparse.Namespace) -> None:
    """Execute each of the notebooks, as many side by side as there are cores; the first error ends the stage."""
    os.environ["IPYTHONDIR"] = str(Path(".ipython").resolve())
    os.environ["PYTHONPATH"] = str(Path.cwd())
    os.environ["MPLCONFIGDIR"] = os.environ.get("MPLCONFIGDIR", str(Path(".ipython").resolve() / "profile_default"))
    parameters = {"dataset": args.dataset} if args.dataset else {}
    # Threads and not processes: each kernel is a process of its own, and one process gives no port to two kernels.
    with ThreadPoolExecutor(cli.n_workers()) as pool:
        runs = [pool.submit(execute, Path("notebooks") / f"{name}.ipynb", parameters) for name in args.notebooks]
        try:
            for run in runs:
                run.result()
        finally:
            pool.shutdown(cancel_futures=True)


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__, "notebooks", "dataset", needs_dataset=False))
