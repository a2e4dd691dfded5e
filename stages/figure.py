"""Run one notebook with papermill, for one data set where it takes one: it reads result files and draws figures."""

import argparse
import os
from pathlib import Path

from stages import cli


def main(args: argparse.Namespace) -> None:
    """Write reports/notebooks/<name>[-<dataset>].ipynb, executed, and the figures the notebook saves."""
    os.environ["IPYTHONDIR"] = str(Path(".ipython").resolve())
    os.environ["PYTHONPATH"] = str(Path.cwd())
    os.environ["MPLCONFIGDIR"] = os.environ.get("MPLCONFIGDIR", str(Path(".ipython").resolve() / "profile_default"))
    import nbformat
    import papermill

    from robacc.files import must_exist, whole

    source = must_exist(Path("notebooks") / f"{args.notebook}.ipynb")
    parameters = {"dataset": args.dataset} if args.dataset else {}
    name = "-".join([source.stem, *parameters.values()])
    with whole(Path("reports/notebooks") / f"{name}.ipynb") as target:
        notebook = papermill.execute_notebook(
            source, None, parameters, kernel_name="python3", progress_bar=False, log_output=False, cwd="."
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


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__, "notebook", "dataset", needs_dataset=False))
