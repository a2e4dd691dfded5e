"""What a user's environment holds changes no figure, no notebook and no page."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from argparse import Namespace
from itertools import product
from pathlib import Path

import matplotlib as mpl
import pytest
from ruamel.yaml import YAML

from robacc import params
from robacc.datasets import facts
from robacc.report import plotting
from stages import claims, environment, identity
from stages.figures import kernel_of_this_python
from tests import results_made_up
from tests.run_made_up import EXACT, PIXEL, figures

ROOT = Path(__file__).parent.parent
DATASET = "cifar10"
NOTEBOOK = "robust_accuracy.ipynb"  # curves, words and a printed line
CODE = ("robacc", "stages", "requirements.lock", ".ipython/profile_default/ipython_kernel_config.py")
BROKEN = {"argv": ["false"], "display_name": "another", "language": "python"}


def project(folder: Path) -> Path:
    """Return `folder` with the project's code, one of its notebooks, and the results of a run that never was."""
    for name in CODE:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    (folder / "notebooks").mkdir()
    shutil.copy(ROOT / "notebooks" / NOTEBOOK, folder / "notebooks")
    results_made_up.write(folder, DATASET, right=0.85)
    results_made_up.write_exact(folder)
    yaml = YAML(typ="rt", pure=True)
    parameters = yaml.load(ROOT / "params.yaml")
    parameters["run"] = {name: [name] if name == DATASET else [] for name in facts.NAMES}
    yaml.dump(parameters, folder / "params.yaml")
    for name, shown in {"exact": EXACT, DATASET: figures(DATASET)}.items():
        (folder / "reports/figures" / name).mkdir(parents=True)
        for figure, kind in product(shown, ("png", "svg")):
            (folder / f"reports/figures/{name}/{figure}.{kind}").write_bytes(PIXEL)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        claims.main(Namespace(dataset=DATASET))
        for stage, dataset in (("figures", DATASET), ("report", None)):
            name = identity.name(stage, dataset)
            (identity.FOLDER / name).write_text(identity.stage_hash(stage, dataset, params.load()))
    return folder


def made(folder: Path, env: dict[str, str], umask: int) -> dict[str, str]:
    """Run figures and report in `env`, and return the hash of each file under reports/."""
    for words in (["stages.figures", "--dataset", DATASET], ["stages.report"]):
        command = [sys.executable, "-m", *words]
        done = subprocess.run(command, cwd=folder, env=env, umask=umask, capture_output=True, check=False)
        assert done.returncode == 0, (done.stdout + done.stderr).decode("latin1")
    files = sorted(file for file in (folder / "reports").rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def of_another_user(home: Path) -> dict[str, str]:
    """Return an environment in which each variable changed a result, or ended a stage."""
    style = home / ".config/matplotlib/matplotlibrc"
    kernel = home / ".local/share/jupyter/kernels/python3/kernel.json"
    library = home / "lib/safetensors/__init__.py"
    startup = home / "startup.py"
    for file in (style, kernel, library):
        file.parent.mkdir(parents=True)
    style.write_text("text.usetex: True\nfont.size: 20\nsavefig.transparent: True\nbackend: svg\n")
    kernel.write_text(json.dumps(BROKEN))
    library.write_text("raise ImportError('a library of another folder')\n")
    startup.write_text("print('hello')\n")
    return {
        **{"HOME": str(home), "TZ": "Asia/Kolkata", "COLUMNS": "30", "ROBACC_WORKERS": "1"},
        **{"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"},
        **{"MATPLOTLIBRC": str(style), "MPLCONFIGDIR": str(style.parent), "MPLBACKEND": "TkAgg"},
        **{"JUPYTER_PATH": str(kernel.parents[2]), "JUPYTER_PREFER_ENV_PATH": "0", "IPYTHONDIR": str(home / "ipython")},
        **{"PYTHONSTARTUP": str(startup), "PYTHONPATH": str(home / "lib"), "PYTHONOPTIMIZE": "2"},
        **{"PYTHONWARNINGS": "error", "PYTHONHASHSEED": "12", "PYTHONDONTWRITEBYTECODE": "1"},
    }


# fault: a user's matplotlibrc
# fault: locale ISO-8859-1, ASCII locale
# fault: MPLBACKEND in the environment
# fault: JUPYTER_PATH with another python3 kernel
def test_the_environment_of_another_user_changes_no_byte(tmp_path):
    path = {"PATH": os.environ["PATH"]}
    first = made(project(tmp_path / "first"), {**path, "HOME": "/dev/null/none", "LANG": "C.UTF-8"}, 0o022)
    env = of_another_user(tmp_path / "home")
    deeper = project(tmp_path / "a folder" / "with é" / "second")
    shutil.copy(env["MATPLOTLIBRC"], deeper)
    assert made(deeper, {**path, **env}, 0o077) == first
    assert f"reports/notebooks/{DATASET}/{NOTEBOOK}" in first
    assert (deeper / f"reports/figures/{DATASET}/robust-accuracy-b.png").read_bytes() != PIXEL


# fault: a user's matplotlibrc
def test_figures_begin_from_matplotlibs_own_style():
    with mpl.rc_context():
        plotting.use_style()
        own = dict(mpl.rcParams)
    with mpl.rc_context({"text.usetex": True, "savefig.transparent": True, "font.size": 20, "image.cmap": "gray"}):
        plotting.use_style()
        assert dict(mpl.rcParams) == own


# fault: JUPYTER_PATH with another python3 kernel
def test_a_notebook_runs_in_the_interpreter_of_its_stage(tmp_path, monkeypatch):
    file = tmp_path / "kernels/python3/kernel.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(BROKEN))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    manager = kernel_of_this_python()(kernel_name="python3")
    assert manager.kernel_spec.argv[0] == sys.executable


def test_the_environment_of_a_stage_is_the_same_for_every_user(tmp_path):
    theirs = of_another_user(tmp_path)
    theirs |= {"OMP_NUM_THREADS": "8", "MKL_CBWR": "AVX", "ONEDNN_DEFAULT_FPMATH_MODE": "BF16", "LANG": "de_DE@euro"}
    kept = {"PATH": "/bin", "HOME": "/home/user", "HTTPS_PROXY": "proxy:1", "CUDA_VISIBLE_DEVICES": "1", "TZ": "UTC"}
    kept |= {"ROBACC_WORKERS": "3", "PYTHONHASHSEED": "0", "COLUMNS": "80", "PYTHONDONTWRITEBYTECODE": "1"}
    assert environment.of_stage({**theirs, **kept}) == environment.of_stage(kept)
    assert environment.of_stage(kept).items() > kept.items()


def test_a_stage_starts_again_once_at_most(tmp_path):
    inside = os.pathsep.join([str(environment.ROOT / "tests"), str(tmp_path)])
    once = environment.of_stage({**of_another_user(tmp_path / "home"), "PYTHONPATH": inside})
    assert once["PYTHONPATH"] == str(environment.ROOT / "tests")
    assert environment.of_stage(once) == once
