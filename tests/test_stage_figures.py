"""Notebooks take their data set from the command line, and draw colour data as well as grey."""

import json
from argparse import Namespace
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbformat
import pytest
import results_made_up
from papermill import PapermillExecutionError

from stages import figures

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
    """Return what writes notebooks/<name>.ipynb, with the parameter `dataset` and one more cell."""
    monkeypatch.chdir(tmp_path)
    for variable in ("IPYTHONDIR", "PYTHONPATH", "MPLCONFIGDIR"):
        monkeypatch.setenv(variable, "")  # the stage sets them; this puts them back
    Path("notebooks").mkdir()

    def write(name: str, code: str) -> None:
        cells = [nbformat.v4.new_code_cell('dataset = "mnist"'), nbformat.v4.new_code_cell(code)]
        cells[0].metadata["tags"] = ["parameters"]
        language = {"language_info": {"name": "python"}}
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=language), f"notebooks/{name}.ipynb")

    return write


@pytest.mark.parametrize(("dataset", "ending", "said"), [("cifar10", "-cifar10", "cifar10"), (None, "", "mnist")])
@pytest.mark.filterwarnings("ignore")  # papermill's own
def test_notebooks_run_with_their_data_set(notebook, dataset, ending, said):
    for name in ("one", "other", "third"):
        notebook(name, f"print('{name}', dataset)")
    figures.main(Namespace(notebooks=["one", "other", "third"], dataset=dataset))
    executed = {file.name: json.loads(file.read_text()) for file in Path("reports/notebooks").iterdir()}
    printed = {name: content["cells"][-1]["outputs"][0]["text"] for name, content in executed.items()}
    assert printed == {f"{name}{ending}.ipynb": [f"{name} {said}\n"] for name in ("one", "other", "third")}


@pytest.mark.filterwarnings("ignore")  # papermill's own
def test_a_notebook_that_fails_fails_the_stage(notebook):
    notebook("good", "print(1)")
    notebook("bad", "1 / 0")
    with pytest.raises(PapermillExecutionError, match="ZeroDivisionError"):
        figures.main(Namespace(notebooks=["good", "bad"], dataset=None))
    assert not Path("reports/notebooks/bad.ipynb").exists()


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
    before = set((colour_run / "reports/figures").glob("*"))
    mpl.use("agg")
    monkeypatch.setattr(plt, "show", plt.close)
    with mpl.rc_context():
        exec(compile("\n".join(['dataset = "cifar10"', *code[1:]]), name, "exec"), {})
    plt.close("all")
    made = {file.name for file in set((colour_run / "reports/figures").glob("*")) - before}
    assert made == {f"{figure}.{kind}" for figure in PER_DATA_SET[name] for kind in ("png", "svg")}
    if "panels.choose" in "".join(code):
        assert "Left out, as none of the first 3" in capsys.readouterr().out
