"""Measure how far rounding on other processors moves a net: `python -m benchmarks.processors`.

Variables of the libraries stand in for an older processor: with them, they leave out its newer instructions. One short
adversarial training is run under each, and compared with the same under none. Stages leave these variables out.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

VARIABLES: list[dict[str, str]] = [
    {},
    {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    {"MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    {"MKL_CBWR": "AVX2"},
    {"ATEN_CPU_CAPABILITY": "avx2"},
]
VARIABLES.append({name: value for each in VARIABLES for name, value in each.items()})
N_STEPS = 60


def train(target: Path) -> None:
    """Write the weights of a short training, and its logits of all test images, to `target`."""
    import torch

    from robacc import balls, params, plan
    from robacc.images import loading
    from robacc.nets.model import eval_mode
    from robacc.training.jobs import Job
    from robacc.training.train import train as run

    torch.set_num_threads(1)
    recipe = plan.recipe(params.load(), "mnist").model_copy(update={"steps": [[1, N_STEPS]]})
    images, tests = (loading.load(Path(f"data/mnist/{split}.safetensors")) for split in ("train", "test"))
    job = Job(balls.parse("linf-0.1"), len(images.y), seed=0)
    progress = run(job, images, recipe, log_every=N_STEPS, checkpoint=target / "none", checkpoint_every=N_STEPS)
    x, y = tests.batch(torch.arange(len(tests.y)))
    with torch.no_grad(), eval_mode(progress.model):
        logits = torch.cat([progress.model(part) for part in x.split(500)])
    weights = torch.cat([value.flatten() for value in progress.model.state_dict().values()])
    np.savez(target / "net.npz", logits=logits, weights=weights, y=y)


def main() -> None:
    """Print a row for each setting: the largest differences, and the accuracies."""
    print("| variables | weights, largest difference | logits | other class, of 10,000 | accuracy |")
    print("|---|---|---|---|---|")
    base = None
    for variables in VARIABLES:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "benchmarks.processors", folder]
            subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1", **variables}, check=True)
            with np.load(Path(folder) / "net.npz") as arrays:
                net = dict(arrays)
        base = base or net
        far = {name: np.abs(net[name] - base[name]).max() for name in ("weights", "logits")}
        chosen = net["logits"].argmax(1)
        moved, accuracy = (chosen != base["logits"].argmax(1)).sum(), (chosen == net["y"]).mean()
        words = ", ".join(f"{name}={value}" for name, value in variables.items()) or "none"
        print(f"| {words} | {far['weights']:.1e} | {far['logits']:.1e} | {moved} | {accuracy:.2%} |", flush=True)


if __name__ == "__main__":
    train(Path(sys.argv[1])) if sys.argv[1:] else main()
