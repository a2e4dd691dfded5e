"""Result tables, pictures and data of a run that never was, as small as the figures and the report can read."""

import json
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from robacc import params, plan
from robacc.datasets import facts
from robacc.files import write_tensors

ROOT = Path(__file__).parent.parent
P = params.load(ROOT / "params.yaml")
N_TEST, N_ATTACKED = 1000, 500


def trained(dataset: str) -> list[dict]:
    """Return the balls of a data set, as in its models.csv."""
    return [
        {"model": f"{dataset}-{ball}", "norm": "standard" if ball.is_standard else ball.norm, "eps": ball.eps}
        for ball in plan.balls(P, dataset)
    ]


def share(accuracy: float, n: int = N_TEST) -> dict:
    """Return the columns of an accuracy."""
    accuracy = min(max(accuracy, 0.0), 1.0)
    low, high = max(accuracy - 0.02, 0.0), min(accuracy + 0.02, 1.0)
    return {"n": n, "n_correct": round(n * accuracy), "accuracy": accuracy, "low": low, "high": high}


def contrasts(dataset: str, n_seeds: int) -> pd.DataFrame:
    """Return contrasts.csv: gains on small sets, losses that grow with eps, and a trade for half natural batches."""
    found = []

    def add(contrast: str, norm: str, eps: float, value: float, **labels: object) -> None:
        spread = {"": 0.01, "_narrow": 0.008, "_both": 0.013}
        limits = {
            f"{end}{of}": value + sign * by for of, by in spread.items() for end, sign in (("low", -1), ("high", 1))
        }
        row = {"contrast": contrast, "kind": "std_acc", "n_train": 50000, "norm": norm, "eps_base": 0.0, "eps": eps}
        row["unlearned"] = ""
        found.append({**row, **labels, "seeds": n_seeds, "n": N_TEST, "value": value, **limits})

    for norm in ("l2", "linf"):
        grid = [model["eps"] for model in trained(dataset) if model["norm"] == norm]
        for below, eps in zip([0.0, *grid], grid, strict=False):
            for n_train, value in ((300, 0.05), (1000, 0.03), (50000, -0.1 * eps / grid[-1])):
                add("robust", norm, eps, value, n_train=n_train)
            add("step", norm, eps, -0.1 * (eps - below) / grid[-1], eps_base=below)
        add("slope", norm, grid[-1], -0.1)
        for kind, value in (("std_acc", 0.02), ("rob_acc", -0.04)):
            add("half", norm, grid[-1], value, kind=kind, eps_base=grid[-1])
    return pd.DataFrame(found)


def tables(dataset: str, n_seeds: int) -> dict[str, pd.DataFrame]:
    """Return the tables of results/<dataset>/."""
    rng = np.random.default_rng(0)
    robust = [(model["norm"], model["eps"]) for model in trained(dataset) if model["eps"]]
    largest = {norm: max(eps for of, eps in robust if of == norm) for norm, _ in robust} | {"standard": 1.0}
    accuracy, sizes, pictures, opinions, checks, pairs = [], [], [], [], [], []
    for model, seed in product(trained(dataset), range(n_seeds)):
        job = {"model": model["model"], "norm_train": model["norm"], "eps_train": model["eps"], "seed": seed}
        strength = job["eps_train"] / largest[job["norm_train"]]
        clean = 0.9 - 0.1 * strength + 0.01 * rng.random()
        for n_train in (300, 1000, 10000, 50000):
            at_size = clean - 0.4 + 0.08 * np.log10(n_train) + 0.05 * strength * (n_train < 2000)
            sizes.append({**job, "n_train": n_train, "steps": 100, "epochs": 1.0, **share(at_size)})
        mixed = [0.0, 0.5] if strength == 1 and job["eps_train"] else [0.0]
        for fraction in mixed:
            row = {**job, "natural_fraction": fraction}
            for images, n in (("all", N_TEST), ("sample", N_ATTACKED)):
                standard = {"norm_test": "none", "eps_test": 0.0, "images": images}
                accuracy.append({**row, **standard, **share(clean + 0.05 * fraction - 0.01 * (n < N_TEST), n)})
            for norm, eps in robust:
                fallen = clean - (0.8 - 0.5 * strength + 0.1 * fraction) * eps / largest[norm]
                attack = {"norm_test": norm, "eps_test": eps, "images": "sample"}
                accuracy.append({**row, **attack, **share(fallen, N_ATTACKED)})
            if job["eps_train"]:
                own = {"norm_test": job["norm_train"], "eps_test": job["eps_train"]}
                for attack in ("pgd", "autoattack", "worst"):
                    extra = {"attack": attack, "attacks": "apgd-ce apgd-t", **share(0.5, 64)}
                    opinions.append({**row, **own, **extra})
                base = {"base": f"{dataset}-standard", "kind": "std_acc", "n": N_TEST, "only_ours": 3, "only_base": 5}
                pairs.append(
                    {"model": job["model"], "natural_fraction": fraction, "seed": job["seed"], **base}
                    | {"difference": -0.002, "low": -0.01, "high": 0.006, "p_value": 0.7}
                )
            masking = (
                "zero_gradients",
                "rob_acc",
                "more_steps",
                "more_restarts",
                "huge_eps",
                "gradient_noise",
            )
            masking += ("promise", "smoothed", "square")
            numbers = {f"masking_{name}": 0.1 for name in masking}
            checks.append({**row, "norm": "l2", "n": 64, "largest_excess": 1e-7, "note": "", **numbers})
        place = "object_share" if facts.of(dataset).channels == 1 else "span_share"
        kinds = [("none", name) for name in (place, "edge_share", "agreement", "class_way", "nearest_right")]
        examples = ("changed", "judged_robust", "judged_standard", "judged_nearest")
        kinds += product(("l2", "linf"), ("alignment", "radius", *examples))
        points = [(*kind, 0.0, 0.3 + 0.5 * strength + 0.01 * rng.random()) for kind in kinds]
        path = [(point / 8, point / 8 * (0.2 + 0.7 * strength)) for point in range(9)]
        points += [("l2", f"path_{judge}", *point) for judge in ("robust", "standard") for point in path]
        for point in points:
            row = dict(zip(("norm", "quantity", "position", "mean"), point, strict=True))
            pictures.append({**job, **row, "standard_error": 0.01, "n": 64, "learned": True})
    named = {"accuracy": accuracy, "sizes": sizes, "pictures": pictures, "autoattack": opinions, "checks": checks}
    return {name: pd.DataFrame(rows) for name, rows in {**named, "paired": pairs}.items()}


def arrays(dataset: str, index: int, *, right: float) -> dict[str, np.ndarray]:
    """Return the pictures of the model `index`, which is right on about a share `right` of the images."""
    same, rng = np.random.default_rng(1), np.random.default_rng(2 + index)
    n_classes, shape = len(facts.of(dataset).classes), (facts.of(dataset).channels, 16, 16)
    n = 3 * n_classes
    y = np.repeat(np.arange(n_classes), 3)
    waves = np.indices(shape).sum(0) / shape[1] * (1 + same.random((n, 1, 1, 1)) * 6)
    x = (0.5 + 0.5 * np.sin(waves + same.random((n, shape[0], 1, 1)) * 6)).astype(np.float32)
    x_adv = (x + 0.3 * rng.standard_normal(x.shape)).clip(0, 1).astype(np.float32)
    shares = np.linspace(0, 1, 9, dtype=np.float32).reshape(1, 9, 1, 1, 1)
    predicted = np.where(rng.random(n) < right, y, (y + 1) % n_classes)
    moved = {}
    for norm in ("l2", "linf"):
        moved |= {f"x_adv_{norm}": x_adv, f"predicted_{norm}": (y + 1) % n_classes}
    path = x[:, None] * (1 - shares) + x_adv[:, None] * shares
    gradient = rng.standard_normal(x.shape).astype(np.float32) * 1e-3
    return {"x": x, "y": y, "predicted": predicted, "gradient": gradient, "path_l2": path, **moved}


def write(root: Path, dataset: str, *, n_seeds: int = 3, right: float = 1.0, about: dict | None = None) -> None:
    """Write everything of a data set under `root`: results/, code/, and data/ with the metadata `about`."""
    folder = root / "results" / dataset
    folder.mkdir(parents=True)
    pd.DataFrame(trained(dataset)).to_csv(folder / "models.csv", index=False)
    for name, table in {**tables(dataset, n_seeds), "contrasts": contrasts(dataset, n_seeds)}.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    for index, model in enumerate(trained(dataset)):
        file = root / "results/visualize" / model["model"] / "pictures.npz"
        file.parent.mkdir(parents=True)
        np.savez(file, **arrays(dataset, index, right=right))
    for split in ("train", "test"):
        file = root / "data" / dataset / f"{split}.safetensors"
        write_tensors({"x": torch.zeros(1, dtype=torch.uint8)}, file, about or {"sha256": "0"})
    shutil.copy(ROOT / "data/published.csv", root / "data")
    for stage in ("train", "evaluate", "visualize"):
        (root / "code").mkdir(exist_ok=True)
        (root / f"code/{stage}-{dataset}").write_text(f"hash of {stage} of {dataset}\n")


def write_exact(root: Path) -> None:
    """Write what the report reads of the linear model and the theory, and their one claim."""
    linear = {"optimizer": "sgd", "l2": 0.0, "eps_train": 0.0}
    named = {
        "linear/accuracy": {**linear, "eps_test": 0.0, "split": "test", "attack": "none", "accuracy": 0.9, "n": 100},
        "linear/models": {**linear, "l1_norm": 2.0, "gradient_norm": 1e-7, "iterations": 9},
        "theory/optimum": {"violated": "", "p": 0.9, "d": 100, "strength": 4.0, "eps_train": 0.0, "eta": 0.4}
        | {"std_acc": 0.99, "rob_acc": 0.01},
        "theory/transfer": {"source": "distribution", "strength": 4.0, "victim": "SVM", "eps_train": 0.0, "p": 0.9}
        | {"adv_acc": 0.01},
    }
    for name, row in named.items():
        file = root / f"results/{name}.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame([row]).to_csv(file, index=False)
    claim = {"id": "C6", "statement": "tight", "rule": "equal", "figure": "theory", "verdict": "reproduced"}
    claim |= {
        "short": "tight",
        "readings": [{"norm": "", "place": "", "verdict": "reproduced"}],
        "published": [],
        "effects": [],
    }
    file = root / "results/exact/ledger.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"claims": [{**claim, "measures": [], "remark": ""}]}))


def write_drawn_exact(root: Path) -> None:
    """Write what the figures draw of the linear model and the theory, and the claims that are told beside them."""
    rng = np.random.default_rng(0)
    fits = [
        {"optimizer": optimizer, "l2": l2, "eps_train": eps}
        for optimizer, l2 in (("optimum", 1e-4), ("sgd", 0.0))
        for eps in (0.0, 0.1, 0.2)
    ]
    pixels = rng.normal(size=(784, 2)) / 3
    features = [{**fit, "pixel": i, "correlation": c, "weight": w} for fit in fits for i, (c, w) in enumerate(pixels)]
    attacks = [("none", 0.0), ("linf", 0.1), ("linf", 0.2), ("linf-box", 0.2)]
    selection = [
        {**fit, "n_kept": kept, "attack": attack, "eps_test": eps, **share(0.9 - eps)}
        for fit, kept, (attack, eps) in product(fits[::3], (1, 3, 10, 784), attacks)
    ]
    noise = [
        {"n_train": n, "seed": seed, "eps_train": eps, "noise_share": 0.6 - eps}
        for n, seed, eps in product((20, 100, 3000), range(2), (0.0, 0.1, 0.2))
    ]
    at = [{"p": p, "d": 500, "strength": strength} for p, strength in product((0.7, 0.95), (2.0, 4.0))]
    kinds = ("SVM", "logistic regression", "neural net", "boosted trees", "adversarial SVM")
    trained = [{"seed": seed, "n_train": 5000, "n_test": 0, "kind": kind} for seed, kind in product(range(2), kinds)]
    accuracies = {"std_acc": 0.96, "rob_acc": 0.04}
    dimension = [
        {"fixed": fixed, "d": d, "eta": eta, "strength": 10 * eta, "std_acc": 0.5 + eta, "rob_acc": 0.5 - eta}
        for fixed, d, eta in product(("eta", "strength"), (10, 100, 10000), (0.1, 0.2, 0.4))
    ]
    named = {
        "linear/features": features,
        "linear/models": [{**fit, "n_used": 10, "lowest_used": 0.5} for fit in fits],
        "linear/selection": selection,
        "linear/noise": noise,
        "theory/points": [{**where, **one, **accuracies} for where, one in product(at, trained)],
        "theory/frontier": [{**where, "d": d, **accuracies} for where, d in product(at, (500, 100000))],
        "theory/dimension": dimension,
    }
    for name, rows in named.items():
        pd.DataFrame(rows).to_csv(root / f"results/{name}.csv", index=False)
    reading = {"norm": "", "place": "", "verdict": "reproduced"}
    told = [
        {"id": f"C{i}", "statement": "so.", "readings": [reading], "effects": [], "measures": []} for i in range(5, 11)
    ]
    (root / "results/exact/ledger.json").write_text(json.dumps({"claims": told}))
