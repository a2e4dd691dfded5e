"""Notebooks take their data set from the command line, and draw colour data as well as grey."""

import ast
import json
import re
import shutil
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import nbclient
import nbformat
import pytest
from IPython.display import Markdown
from papermill import PapermillExecutionError

from stages import claims, figures, identity
from tests import results_made_up
from tests.test_plotting import touching

ROOT = Path(__file__).parent.parent
PER_DATA_SET = {
    "figures_1_6_sizes": ["figure-1b", "figure-6b"],
    "figures_2_10_gradients": ["figure-2b", "figure-10b"],
    "figures_3_8_9_large_eps": ["figure-3b", "figure-8b", "figure-9b"],
    "figure_4_interpolation": ["figure-4b", "figure-4b-judge"],
    "figure_7_training_eps": ["figure-7b"],
    "robust_accuracy": ["robust-accuracy-b"],
}
EXACT = {
    "figure_5_linear": ["figure-5a", "figure-5b", "figure-5c", "figure-5-noise"],
    "theory": ["theory-frontier", "theory-dimension"],
}
START = """import os
from pathlib import Path

if Path.cwd().name == "notebooks":
    os.chdir("..")  # Jupyter begins in the notebook's folder"""


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
def made_up(tmp_path_factory):
    """Return the folder of a run of colour images, of the linear model and of the theory."""
    folder = tmp_path_factory.mktemp("run")
    results_made_up.write(folder, "cifar10", right=0.85)
    results_made_up.write_exact(folder)
    results_made_up.write_drawn_exact(folder)
    shutil.copy(ROOT / "params.yaml", folder)
    (folder / "notebooks").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        claims.main(Namespace(dataset="cifar10"))
    return folder


def run(name: str, dataset: str, on_figure: Callable[[], None]) -> list[str]:
    """Run a notebook as it stands, `on_figure` where it shows one, and return what it says and shows, in order."""
    shown: list[str] = []

    def show() -> None:
        shown.append("figure")
        on_figure()
        plt.close("all")

    scope: dict = {}
    with mpl.rc_context(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(plt, "show", show)
        for cell in json.loads((ROOT / f"notebooks/{name}.ipynb").read_text())["cells"]:
            if cell["cell_type"] == "markdown":
                continue
            text = "".join(cell["source"])
            code = ast.parse(f"dataset = {dataset!r}" if cell["metadata"].get("tags") else text)
            last = code.body.pop() if isinstance(code.body[-1], ast.Expr) else None
            exec(compile(code, name, "exec"), scope)
            value = eval(compile(ast.Expression(last.value), name, "eval"), scope) if last else None
            shown += [value.data] if isinstance(value, Markdown) else []
    return shown


@pytest.mark.parametrize("name", [*PER_DATA_SET, *EXACT])
def test_every_panel_can_be_drawn_and_after_each_stands_what_one_sees(made_up, monkeypatch, name):
    """They draw colour images too, from the notebook's own folder, where Jupyter begins."""
    monkeypatch.chdir(made_up / "notebooks")
    mpl.use("agg")
    dataset = "" if name in EXACT else "cifar10"
    folder = made_up / "reports/figures" / (dataset or "exact")
    before = set(folder.glob("*"))
    touched: list = []
    shown = run(name, dataset, lambda: touched.extend(touching(plt.figure(at)) for at in plt.get_fignums()))
    made = {file.name for file in set(folder.glob("*")) - before}
    assert made == {f"{figure}.{kind}" for figure in {**PER_DATA_SET, **EXACT}[name] for kind in ("png", "svg")}
    assert shown.count("figure") == len(touched) == len({**PER_DATA_SET, **EXACT}[name])
    assert touched == [[]] * len(touched)
    assert shown[-1] != "figure"
    assert all(text.strip() for text in shown)
    assert not [text for text in shown if re.search("nan|None|std_acc|rob_acc", text)]
    if "gallery.load" in "".join(identity.code(ROOT / f"notebooks/{name}.ipynb")):
        assert "Left out, as none of the first 3" in shown[0]


def test_a_notebook_has_the_parameter_of_its_stage_first():
    for name in PER_DATA_SET:
        cells = json.loads((ROOT / f"notebooks/{name}.ipynb").read_text())["cells"]
        tagged = next(cell for cell in cells if cell["cell_type"] == "code")
        assert (tagged["source"], tagged["metadata"]["tags"]) == (['dataset = "mnist"'], ["parameters"])


@pytest.mark.filterwarnings("ignore")  # nbclient's own
def test_notebooks_find_the_project_where_jupyter_starts_them(monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    for name in (*PER_DATA_SET, *EXACT):
        first = next(text for text in identity.code(ROOT / f"notebooks/{name}.ipynb") if "import" in text)
        head, found = first.split("\n\nimport ", 1)[0], first.count("from robacc.report import")
        assert (head, found) == (START, 1), name
    there = nbformat.v4.new_code_cell(f"{START}\n\nfrom robacc.report import legends\nprint(legends.__file__)")
    notebook = nbformat.v4.new_notebook(cells=[there])
    folder = {"metadata": {"path": str(ROOT / "notebooks")}}
    nbclient.NotebookClient(notebook, resources=folder, kernel_name="python3").execute()
    assert notebook.cells[0].outputs[0].text.strip() == str(ROOT / "robacc/report/legends.py")
