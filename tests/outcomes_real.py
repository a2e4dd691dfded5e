"""Write outcomes_real.npz: which of all 10,000 MNIST test images two trained models get right, standard and attacked.

`python -m tests.outcomes_real` makes it after `dvc repro`, in a few minutes. The committed file is of the models and of
`Attack.standard()` of commit f83c917. Tests use it as real outcomes in the order of the test set, whose first half is
harder. What a later model or attack would give does not matter to them.
"""

from pathlib import Path

import numpy as np

FILE = Path(__file__).with_suffix(".npz")
BALLS = {"l2-1.5": ("l2", 1.5), "linf-0.3": ("linf", 0.3)}


def read() -> dict[str, np.ndarray]:
    """Return `labels` int64 [10000], and `<ball>-correct` and `<ball>-robust`, bool [10000], for each of `BALLS`."""
    with np.load(FILE, allow_pickle=False) as arrays:
        return {name: arrays[name].astype(np.int64 if name == "labels" else bool) for name in arrays}


def main() -> None:
    """Attack seed 0 of each ball at its training eps, on all test images."""
    from robacc.attack.evaluation import evaluate
    from robacc.files import write_arrays
    from robacc.images import loading
    from robacc.nets import model as nets
    from robacc.params import Attack

    x, y = loading.load(Path("data/mnist/test.safetensors")).first()
    arrays = {"labels": y.numpy().astype(np.uint8)}
    for ball, (norm, eps) in BALLS.items():
        model, _ = nets.load(Path(f"models/mnist-{ball}/seed0-natural0.0.safetensors"))
        counts = {"n_robust": len(y), "n_checked": 64, "seed": 0}
        outcomes, _ = evaluate(model.eval(), x, y, norm, [eps], Attack.standard(), **counts)
        arrays[f"{ball}-correct"] = (outcomes.predicted == y).numpy()
        arrays[f"{ball}-robust"] = (outcomes.fooling_eps > eps).numpy()
    write_arrays(arrays, FILE)


if __name__ == "__main__":
    main()
