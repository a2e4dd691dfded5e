"""The real graph on the smoke recipe: `dvc repro` in a temporary clone, and what its users do next."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML

from robacc import params, provenance
from robacc.datasets import facts
from robacc.files import read_arrays
from robacc.images import loading
from robacc.images.sample import balanced_order
from stages import identity
from tests import documented

ROOT = Path(__file__).parent.parent
SMOKE = {
    ("balls", "mnist"): ["standard", "l2-1.5", "linf-0.3"],
    ("datasets", "mnist", "recipe"): "mnist-smoke",
    ("datasets", "mnist", "sizes"): [[100, 2], [1000, 2]],
    ("datasets", "mnist", "seeds", "n"): 2,
    ("datasets", "mnist", "seeds", "deciding"): ["standard", "l2-1.5"],
    ("datasets", "mnist", "seeds", "n_deciding"): 3,
    ("datasets", "mnist", "seeds", "n_attacked"): 2,
    ("datasets", "mnist", "natural", "balls"): ["l2-1.5"],
    ("claims", "mnist", "balls"): ["l2-1.5", "linf-0.3"],
    ("evaluate", "mnist", "n_images"): 60,
    ("evaluate", "mnist", "n_checked"): 20,
    ("evaluate", "mnist", "attack", "n_steps"): 30,
    ("evaluate", "mnist", "attack", "restarts"): [0.0, 0.5],
    ("evaluate", "mnist", "attack", "n_queries", "linf"): 20,
    ("evaluate", "mnist", "eps"): {"l2": [0.5, 1.5], "linf": [0.2, 0.3]},
    ("autoattack", "mnist", "n_images"): 20,
    ("autoattack", "mnist", "rest"): {"attacks": [], "balls": [], "n_seeds": 0},
    ("visualize", "mnist", "search", "n_steps"): 10,
    ("visualize", "mnist", "n_training"): 2000,
    ("visualize", "mnist", "n_images"): 20,
    ("theory", "p"): [0.7, 0.9],
    ("theory", "strengths"): [4.0],
    ("theory", "n_seeds"): 2,
    ("theory", "n_test"): 500,
    ("theory", "fit", "n_train"): 500,
    ("theory", "fit", "trees"): 10,
    ("theory", "frontier", "d"): [500],
    ("theory", "optimum", "d"): [1000],
    ("theory", "optimum", "p"): [0.7, 0.9],
    ("theory", "optimum", "strengths"): [4.0],
    ("linear", "eps"): [0.2],
    ("linear", "optimum", "l2"): [0.0001],
    ("linear", "sgd", "epochs"): 5,
    ("linear", "n_kept"): [1, 100, 784],
    ("linear", "noise", "sizes"): [20, 50],
    ("linear", "noise", "n_seeds"): 1,
    ("linear", "noise", "n_features"): 50,
}


COLOUR = {
    ("run", "cifar10"): ["cifar10"],
    ("balls", "cifar10"): ["standard", "l2-0.3137", "linf-0.0157"],
    ("datasets", "cifar10", "recipe"): "cifar10-smoke",
    ("datasets", "cifar10", "sizes"): [[100, 2]],
    ("datasets", "cifar10", "seeds", "n"): 2,
    ("datasets", "cifar10", "seeds", "deciding"): [],
    ("datasets", "cifar10", "seeds", "n_attacked"): 2,
    ("claims", "cifar10", "balls"): ["l2-0.3137", "linf-0.0157"],
    ("evaluate", "cifar10", "n_images"): 20,
    ("evaluate", "cifar10", "n_checked"): 10,
    ("evaluate", "cifar10", "attack", "n_steps"): 15,
    ("evaluate", "cifar10", "attack", "restarts"): [0.0, 0.5],
    ("evaluate", "cifar10", "attack", "n_queries", "linf"): 20,
    ("evaluate", "cifar10", "eps"): {"l2": [0.3137], "linf": [0.0157]},
    ("autoattack", "cifar10", "n_images"): 10,
    ("autoattack", "cifar10", "attacks"): ["apgd-ce"],
    ("autoattack", "cifar10", "rest", "attacks"): [],
    ("visualize", "cifar10", "search", "n_steps"): 4,
    ("visualize", "cifar10", "n_training"): 500,
    ("visualize", "cifar10", "n_images"): 20,
}


class Clone:
    """A copy of the project as git has it, in which DVC commands run."""

    def __init__(self, folder: Path):
        self.folder = folder
        incoming = ROOT / "data" / "incoming" / "mnist"
        mirror = {"ROBACC_MIRROR": str(incoming)} if incoming.is_dir() else {}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.env = {**mirror, **os.environ, "PATH": path, "PYTHONHASHSEED": "0", "DVC_NO_ANALYTICS": "1"}
        self.record = folder.with_name("record")
        self.record.mkdir(exist_ok=True)

    def run(self, *command: str, code: int = 0) -> str:
        done = subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True, check=False)
        output = done.stdout + done.stderr
        assert done.returncode == code, f"{' '.join(command)} gave {done.returncode}:\n{output[-4000:]}"
        return output

    def configure(self, values: dict) -> None:
        yaml = YAML()
        content = yaml.load(self.folder / "params.yaml")
        for (*path, last), value in values.items():
            section = content
            for key in path:
                section = section[key]
            section[last] = value
        yaml.dump(content, self.folder / "params.yaml")

    def models(self) -> set[str]:
        return set(pd.read_csv(self.folder / "results/mnist/accuracy.csv").model)


def worker(clone: Clone, folder: Path, remote: Path) -> Clone:
    """Return a fresh clone as on another machine: no results, a cache of its own, and the DVC remote they share."""
    clone.run("git", "clone", "-q", ".", str(folder))
    other = Clone(folder)
    for path in ("dvc.lock", "results", "reports"):
        other.run("git", "rm", "-rq", path)
    other.run("git", "-c", "user.email=test@example.org", "-c", "user.name=test", "commit", "-qm", "code alone")
    other.run("dvc", "remote", "add", "-q", "-d", "--local", "shared", str(remote))
    return other


def run_stages(output: str) -> set[str]:
    return {line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")}


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clone") / "project"
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, files.split("\0")):
        if (ROOT / name).exists() and name != "dvc.lock" and not name.startswith(("results/", "reports/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    clone = Clone(folder)
    clone.run("git", "init", "-q")
    clone.run("git", "config", "user.email", "test@example.org")
    clone.run("git", "config", "user.name", "test")
    clone.configure(SMOKE)
    clone.env |= {"PYTHONPATH": str(folder / "tests" / "recorder"), "ROBACC_RECORD": str(clone.record)}
    clone.run("dvc", "repro")
    del clone.env["PYTHONPATH"], clone.env["ROBACC_RECORD"]
    clone.run("git", "add", "-A")
    clone.run("git", "commit", "-qm", "smoke")
    return clone


def test_the_graph_makes_every_result(clone):
    assert clone.models() == {"mnist-standard", "mnist-l2-1.5", "mnist-linf-0.3"}
    sizes = pd.read_csv(clone.folder / "results/mnist/sizes.csv")
    assert set(sizes.n_train) == {100, 1000, 60000}
    assert (sizes.n == 10000).all()
    assert sizes[sizes.model == "mnist-l2-1.5"].groupby("n_train").seed.nunique().to_dict() == {
        100: 2,
        1000: 2,
        60000: 3,
    }
    contrasts = pd.read_csv(clone.folder / "results/mnist/contrasts.csv", keep_default_na=False)
    assert set(contrasts.contrast) == {"robust", "step", "slope", "half"}
    assert (contrasts.drop(columns="unlearned") != "").all(axis=None)  # usually all of its models learned
    figures = [path for path in (clone.folder / "reports/figures").rglob("*") if path.is_file()]
    assert {path.suffix for path in figures} == {".png", ".svg"}
    assert {path.parent.name for path in figures} == {"mnist", "exact"}
    assert (clone.folder / "reports/index.html").stat().st_size > 100_000


def test_robust_training_shows_even_here(clone):
    accuracy = pd.read_csv(clone.folder / "results/mnist/accuracy.csv", keep_default_na=False)
    robust = accuracy[(accuracy.norm_test == "linf") & (accuracy.eps_test == 0.2)].groupby("model").accuracy.mean()
    assert robust["mnist-linf-0.3"] > robust["mnist-standard"] + 0.1  # about 0.3 apart on 600 images


def test_every_model_is_attacked_and_pictured_on_the_same_sample(clone):
    y = loading.load(clone.folder / "data/mnist/test.safetensors").y
    order = balanced_order(y, seed=0).tolist()
    results = clone.folder / "results"
    for model in clone.models():
        attacked = read_arrays(results / f"evaluate/{model}/outcomes.npz")
        indices = [values.tolist() for name, values in attacked.items() if name.endswith("-indices")]
        assert indices == [order[:60]] * len(indices) != []
        by_autoattack = pd.read_csv(results / f"autoattack/{model}.csv", keep_default_na=False)
        by_model = by_autoattack.groupby(["seed", "natural_fraction", "norm"])
        assert all(sorted(rows.image) == sorted(order[:20]) for _, rows in by_model)
        pictured = read_arrays(results / f"visualize/{model}/pictures.npz")["index"].tolist()
        assert pictured == [i for label in range(10) for i in [i for i in order if y[i] == label][:5]]
    accuracy = pd.read_csv(results / "mnist/accuracy.csv", keep_default_na=False)
    sizes = {("none", "all"): {10000}, ("none", "sample"): {60}, ("l2", "sample"): {60}, ("linf", "sample"): {60}}
    assert accuracy.groupby(["norm_test", "images"]).n.agg(set).to_dict() == sizes
    assert not (accuracy == "").any(axis=None)


def test_nothing_is_written_outside_the_outputs(clone):
    assert clone.run("git", "status", "--porcelain") == ""


def test_a_second_repro_runs_nothing(clone):
    assert run_stages(clone.run("dvc", "repro")) == set()


def recorded(clone: Clone, kind: str) -> dict[str, set[str]]:
    """Return what each stage used while it ran, by the name of its file in code/."""
    found = {}
    for file in clone.record.iterdir():
        lines = [line.split(" ", 1) for line in file.read_text().splitlines()]
        found[file.name] = {what for of, what in lines if of == kind}
    return found


def declared(clone: Clone) -> dict[str, set[str]]:
    """Return the parameters that dvc.lock says a stage depends on, by the name of its file in code/."""
    stages = YAML(typ="safe", pure=True).load(clone.folder / "dvc.lock")["stages"].values()
    found: dict[str, set[str]] = {}
    for stage in stages:
        words = stage["cmd"].split()
        name = words[2].removeprefix("stages.") + (f"-{words[4]}" if "--dataset" in words else "")
        found.setdefault(name, set()).update(stage.get("params", {}).get("params.yaml", {}))
    return found


def begins(key: str, entry: str) -> bool:
    return f"{key}.".startswith(f"{entry}.")


def test_a_stage_reads_the_parameters_that_it_declares_and_no_others(clone):
    # trap 37: read and not declared gives stale results, declared and not read repeats work for nothing
    reads, entries = recorded(clone, "param"), declared(clone)
    assert entries.pop("code") == reads.pop("code", set()) == set()
    for name, keys in entries.items():
        # The recipe's name is in the key of its section, recipes.mnist-smoke: another name is another key.
        read = {key for key in reads.get(name, set()) if not key.endswith(".recipe")}
        assert [key for key in read if not any(begins(key, entry) for entry in keys)] == [], name
        assert [entry for entry in keys if not any(begins(key, entry) or begins(entry, key) for key in read)] == [], (
            name
        )


def test_a_stage_runs_no_module_that_its_hash_leaves_out(clone):
    # trap 37
    check = {each for module in provenance.PASS_ON for each in provenance.closure(module)}
    for name, loaded in recorded(clone, "module").items():
        if name != "code":
            stage, _, dataset = name.partition("-")
            made_of = set(identity.modules(stage, dataset or None, params.load(clone.folder / "params.yaml")))
            files = {module for module in loaded if provenance.is_module(module)}
            # `params` checks its values against the facts of every data set, and passes on the values alone.
            assert files - made_of - check <= {f"robacc.datasets.{each}" for each in facts.NAMES}, name


def test_after_an_edit_what_it_changes_runs_again_and_a_stage_with_other_code_refuses(clone):
    file = clone.folder / "robacc/attack/diagnostics.py"
    before = file.read_text()
    file.write_text(f"{before}# a comment\n")
    assert run_stages(clone.run("dvc", "repro")) == {"code"}
    file.write_text(f"{before}ANOTHER = 1\n")
    message = clone.run(sys.executable, "-m", "stages.evaluate", "--dataset", "mnist", "--ball", "l2-1.5", code=1)
    assert message.startswith("evaluate: expected the code that code/evaluate-mnist names, got code changed since")
    assert len(message.strip().splitlines()) == 1
    assert run_stages(clone.run("dvc", "repro", "code")) == {"code"}
    stale = json.loads(clone.run("dvc", "status", "--json"))
    assert set(stale) == {f"evaluate@mnist-{ball}" for ball in ("standard", "l2-1.5", "linf-0.3")} | {"report"}
    file.write_text(before)
    clone.run("git", "checkout", "-q", ".")
    assert run_stages(clone.run("dvc", "repro")) == set()


def test_metrics_and_plots_have_names(clone):
    metrics = json.loads(clone.run("dvc", "metrics", "show", "--json"))
    values = metrics[""]["data"]["results/mnist/metrics.json"]["data"]
    assert values["mnist-l2-1.5"].keys() == {"std_acc", "rob_acc"}
    shown = clone.run("dvc", "plots", "show", "--json", "--out", "dvc_plots")
    assert "results/curves/mnist-l2-1.5/seed101-natural0.5.csv" in shown.replace("\\\\", "/")
    assert "mnist-l2-1.5" in clone.run("dvc", "exp", "show", "--csv")
    claims = metrics[""]["data"]["results/mnist/claims.json"]["data"]
    assert claims["C2"].keys() == {"l2", "linf"}


def test_the_page_of_plots_has_titles_and_loads_nothing_from_a_network(clone):
    clone.run("dvc", "plots", "show", "--out", "dvc_plots")
    page = (clone.folder / "dvc_plots/index.html").read_text(encoding="utf8")
    for title in (
        "accuracy under attack (Figure 7)",
        "standard accuracy by training-set size",
        "mnist-l2-1.5: accuracy on",
    ):
        assert title in page, f"no plot has the title {title!r}"
    assert not re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=.?https?://", page)


def test_the_commands_of_the_documentation_run_as_they_stand(clone):
    # fault: a command that a page prints does not work
    (clone.folder / ".venv").symlink_to(sys.prefix)
    clone.env["MAKEFLAGS"] = "PYTHON=true"  # the environment is there
    for command in documented.to_run():
        clone.run("bash", "-c", f"source .venv/bin/activate && {command}")
    del clone.env["MAKEFLAGS"]
    (clone.folder / ".venv").unlink()
    clone.run("git", "checkout", "-q", ".")


def test_a_stage_repeats_bit_by_bit(clone):
    lock = (clone.folder / "dvc.lock").read_text()
    shutil.rmtree(clone.folder / "checkpoints")
    stages = ["train@mnist-linf-0.3", "evaluate@mnist-linf-0.3", "visualize@mnist-linf-0.3", "figures@mnist"]
    clone.env["ROBACC_WORKERS"] = "1"
    clone.run("dvc", "repro", "-f", "-s", "--no-run-cache", *stages)
    del clone.env["ROBACC_WORKERS"]
    assert (clone.folder / "dvc.lock").read_text() == lock


def test_several_machines_share_the_work_and_one_finishes_the_report(clone, tmp_path):
    begun: list[str] = []
    for part in ("1/2", "2/2"):
        other = worker(clone, tmp_path / part.replace("/", "of"), tmp_path / "remote")
        begun += sorted(run_stages(other.run("make", "share", f"PART={part}", "PYTHON=true")) - {"fetch@mnist", "code"})
    assert len(begun) == len(set(begun)) == 4 * 3 + 1  # four kinds of three balls, and the judges
    last = worker(clone, tmp_path / "last", tmp_path / "remote")
    again = run_stages(last.run("make", "collect", "PYTHON=true"))
    assert not again & set(begun)
    assert "visualize@mnist-standard" in again
    for page in ("reports/index.html", "reports/summary.md"):
        assert (last.folder / page).read_bytes() == (clone.folder / page).read_bytes()


def test_a_new_eps_costs_that_eps_and_an_old_one_leaves(clone):
    balls = ["-S", "balls.mnist=[standard,l2-1.5,linf-0.2]", "-S", "claims.mnist.balls=[l2-1.5,linf-0.2]"]
    output = clone.run("dvc", "exp", "run", "-n", "other-eps", *balls)
    trained = {
        stage
        for stage in run_stages(output)
        if stage.startswith(("fetch", "train", "size", "evaluate", "auto", "visualize"))
    }
    kinds = ("train", "size_sweep", "evaluate", "autoattack", "visualize")
    assert trained == {f"{kind}@mnist-linf-0.2" for kind in kinds}
    assert clone.models() == {"mnist-standard", "mnist-l2-1.5", "mnist-linf-0.2"}
    page = (clone.folder / "reports/index.html").read_text()
    assert "<td>linf eps 0.2</td>" in page
    assert "mnist-linf-0.3" not in page
    assert "mnist-linf-0.2" in clone.run("dvc", "metrics", "diff", "HEAD")
    (show,) = (command for command in documented.to_run() if command.startswith("dvc exp show "))
    columns = clone.run("bash", "-c", f"{show} --csv").splitlines()[0].split(",")
    assert {"balls.mnist", "mnist-linf-0.2.std_acc", "mnist-linf-0.3.std_acc"} <= set(columns)
    assert len(columns) < 30
    clone.run("make", "compare", "PYTHON=true")
    compared = (clone.folder / "reports/compare.html").read_text()
    assert "<h1>HEAD, other-eps</h1>" in compared
    assert '<td class="said">only in other-eps</td>' in compared


def test_wrong_parameters_end_in_one_line_before_any_work(clone):
    clone.run("git", "checkout", "-q", "params.yaml")
    clone.configure({("evaluate", "mnist", "n_images"): "many"})
    text = (clone.folder / "params.yaml").read_text()
    line = text[: text.index("n_images: many")].count("\n") + 1
    message = clone.run(sys.executable, "-m", "stages.check", code=1)
    assert message.strip().splitlines() == [
        f"check: params.yaml, line {line}: expected evaluate.mnist.n_images: a valid integer, got 'many'"
    ]
    clone.run("git", "checkout", "-q", "params.yaml")


def test_another_data_set_is_a_switch(clone, archive):
    clone.run("git", "checkout", "-q", ".")
    clone.configure(COLOUR)
    clone.env["ROBACC_CIFAR10"] = str(archive("cifar10-jpeg.tar.gz"))
    stages = run_stages(clone.run("dvc", "repro"))
    assert {"fetch_cifar10@cifar10", "train_cifar10@cifar10-l2-0.3137"} <= stages
    assert not any(stage.startswith(("train", "evaluate")) and "mnist" in stage for stage in stages)
    accuracy = pd.read_csv(clone.folder / "results/cifar10/accuracy.csv")
    assert set(accuracy.model) == {"cifar10-standard", "cifar10-l2-0.3137", "cifar10-linf-0.0157"}
    assert (clone.folder / "reports/figures/cifar10/figure-2b.png").exists()
    page = (clone.folder / "reports/index.html").read_text()
    assert "JPEG" in page  # a lossy copy is named
    assert "make restricted_imagenet_64" in page
    assert "make cifar10" not in page
