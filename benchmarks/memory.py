"""Measure the memory of evaluation at 224 pixels: `python -m benchmarks.memory`, two CPU minutes.

Each row is a new worker of a stage, on the CPU. ResNet-50 tells what a forward pass with its gradient keeps of an
image. A net that costs nothing tells what the attack itself keeps of each attacked image. The images are noise and the
nets are untrained, on which memory does not depend. Writes benchmarks/memory.csv.
"""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from robacc.attack.evaluation import evaluate
from robacc.files import write_csv
from robacc.images import in_memory
from robacc.nets import model as nets
from robacc.parallel import OnProgress, parallel
from robacc.params import Attack
from robacc.seeding import generator

POINTS = [("resnet50", 5), ("resnet50", 25), ("resnet50", 45), ("of no cost", 200), ("of no cost", 600)]
SETTINGS = Attack(
    quick_steps=1, n_steps=2, step_size=2.0, first_radius=1.0, restarts=[], n_queries={"l2": 0, "linf": 0}
)
GRID = [0.005, 0.01]


class Means(nn.Module):
    """A net whose logits are the mean of each channel; that of the first is raised, and an attack lowers it again."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [B, 3]."""
        return x.mean((2, 3)) + x.new_tensor([0.008, 0.0, 0.0])


def peak(point: tuple[str, int], on_progress: OnProgress) -> float:
    """Return the most memory that this process ever held, in MB (2**20 bytes), after an evaluation of `n` images."""
    name, n = point
    x = torch.randint(0, 256, (n, 3, 224, 224), dtype=torch.uint8, generator=generator(0, "images"))
    net = Means() if name == "of no cost" else nets.build(name, mean=[0.5] * 3, std=[0.25] * 3, seed=0, n_classes=9)
    images = in_memory.Images(x, torch.zeros(n, dtype=torch.int64), "")
    y = nets.predict(net.eval(), images.first(1)[0]).expand(n).clone()  # so that all are right, and attacked
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of one class
        evaluate(net, images, y, "linf", GRID, SETTINGS, n_robust=n, n_checked=1, seed=0)
    on_progress(1)
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    """Write a row for each net and number of images."""
    rows = []
    for name, n in POINTS:
        (found,) = parallel(peak, [(name, n)], units=[1], unit="points", n_workers=1)
        rows.append({"net": name, "images": n, "peak_mb": round(found), "torch": torch.__version__.split("+")[0]})
    write_csv(rows, Path("benchmarks/memory.csv"))


if __name__ == "__main__":
    main()
