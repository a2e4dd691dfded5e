"""Notebooks take their data set from the command line, and draw colour data as well as grey."""

import json
from argparse import Namespace
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import pytest
from papermill import PapermillExecutionError

from stages import figures
from tests import results_made_up

ROOT = Path(__file__).parent.parent
PER_DATA_SET = {
    "figures_1_6_sizes": ["figure-1b", "figure-6b"],
    "figures_2_10_gradients": ["figure-2b", "figure-10b"],
    "figures_3_8_9_large_eps": ["figure-3b", "figure-8b", "figure-9b"],
    "figure_4_interpolation": ["figure-4b", "figure-4b-judge"],
    "figure_7_training_eps": ["figure-7b"],
    "robust_accuracy": ["robust-accuracy-b"],
}


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """Return what writes notebooks/<name>.ipynb of one cell, after one with the parameter `dataset` if it has one."""
    monkeypatch.chdir(tmp_path)
    for variable in ("PYTHONPATH", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(variable, "")  # the stage sets them; this puts them back
    for variable in ("IPYTHONDIR", "MPLCONFIGDIR"):
        monkeypatch.setenv(variable, str(tmp_path / "profile"))
    Path("notebooks").mkdir()

    def write(name: str, code: str, *, parameter: bool = True) -> None:
        cells = [nbformat.v4.new_code_cell('dataset = "mnist"', metadata={"tags": ["parameters"]})] * parameter
        cells.append(nbformat.v4.new_code_cell(code))
        language = {"language_info": {"name": "python"}}
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=language), f"notebooks/{name}.ipynb")

    return write


# Kernels talk over sockets in files: two that start at once cannot choose the same port.
CODE = """
import json
from ipykernel.connect import get_connection_info
print(NAME, json.loads(get_connection_info())["transport"])
"""


@pytest.mark.parametrize(("dataset", "folder"), [("cifar10", "cifar10"), (None, "exact")])
@pytest.mark.filterwarnings("ignore")  # papermill's own
def test_a_data_set_runs_the_notebooks_with_a_parameter_and_the_exact_ones_are_the_others(notebook, dataset, folder):
    names = {"one": True, "other": True, "third": True, "exact": False, "theory": False}
    for name, parameter in names.items():
        notebook(name, CODE.replace("NAME", f"'{name}', dataset" if parameter else f"'{name}'"), parameter=parameter)
    figures.main(Namespace(dataset=dataset))
    executed = {file.stem: json.loads(file.read_text()) for file in Path("reports/notebooks", folder).iterdir()}
    printed = {name: content["cells"][-1]["outputs"][0]["text"] for name, content in executed.items()}
    said = " cifar10" if dataset else ""
    assert printed == {name: [f"{name}{said} ipc\n"] for name in names if names[name] == (dataset is not None)}


@pytest.mark.filterwarnings("ignore")  # papermill's own
def test_a_notebook_that_fails_fails_the_stage(notebook):
    notebook("bad", "1 / 0")
    notebook("good", "print(1)")
    with pytest.raises(PapermillExecutionError, match="ZeroDivisionError"):
        figures.main(Namespace(dataset="mnist"))
    assert [file.name for file in Path("reports/notebooks/mnist").iterdir() if "bad" in file.name] == []


# fault: kill of a notebook's kernel
def test_a_killed_kernel_is_one_line_and_leaves_no_notebook(notebook):
    notebook("killed", "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(ChildProcessError, match=r"the kernel of .*killed\.ipynb was killed, .* ROBACC_WORKERS"):
        figures.main(Namespace(dataset="mnist"))
    assert not list(Path("reports/notebooks/mnist").glob("*killed*"))


@pytest.fixture(scope="module")
def colour_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("colour")
    results_made_up.write(folder, "cifar10", right=0.85)
    return folder


@pytest.mark.parametrize("name", PER_DATA_SET)
def test_every_panel_can_be_drawn_of_colour_data(colour_run, monkeypatch, capsys, name):
    monkeypatch.chdir(colour_run)
    cells = json.loads((ROOT / f"notebooks/{name}.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert code[0] == 'dataset = "mnist"'
    assert [cell["metadata"].get("tags") for cell in cells].count(["parameters"]) == 1
    before = set((colour_run / "reports/figures/cifar10").glob("*"))
    mpl.use("agg")
    monkeypatch.setattr(plt, "show", plt.close)
    with mpl.rc_context():
        exec(compile("\n".join(['dataset = "cifar10"', *code[1:]]), name, "exec"), {})
    plt.close("all")
    made = {file.name for file in set((colour_run / "reports/figures/cifar10").glob("*")) - before}
    assert made == {f"{figure}.{kind}" for figure in PER_DATA_SET[name] for kind in ("png", "svg")}
    if "selection.choose" in "".join(code):
        assert "Left out, as none of the first 3" in capsys.readouterr().out
