"""Time PGD and one adversarial training step of ours against a plain loop, beside the machine's sgemm peak.

Alternating runs in one process, one thread, medians; ratios are what to quote. Writes benchmarks/results.csv.
"""

import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robacc.attacks import pgd, random_start
from robacc.files import write_csv
from robacc.models import build
from robacc.norms import ball
from robacc.seeding import generator

BATCH, STEPS, EPS, STEP_SIZE, ROUNDS = 100, 5, 0.3, 0.15, 20


def plain_net() -> nn.Sequential:
    """Return the laptop recipe's net as one would write it first."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 4, 2, 1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(1568, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )


def plain_pgd(model: nn.Module, x: Tensor, y: Tensor, start: Tensor) -> Tensor:
    """Return PGD's last iterate in linf, written out."""
    x_adv = start.clone()
    for _ in range(STEPS):
        x_adv.requires_grad_()
        (grad,) = torch.autograd.grad(F.cross_entropy(model(x_adv), y), x_adv)
        x_adv = torch.clamp(x + torch.clamp(x_adv.detach() + STEP_SIZE * grad.sign() - x, -EPS, EPS), 0, 1)
    return x_adv


def medians(contestants: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the median seconds of each contestant over alternating rounds, the first two not counted."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(ROUNDS + 2):
        for name, run in contestants.items():
            begin = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values[2:]) for name, values in times.items()}


def main() -> None:
    """Measure, print and write the table."""
    torch.set_num_threads(1)
    x, y = torch.rand(BATCH, 1, 28, 28), torch.randint(0, 10, (BATCH,))
    threat = ball("linf", EPS)
    start = random_start(x, threat, generator(0))
    ours, plain = build("small_cnn", mean=[0.0], std=[1.0], seed=0), plain_net()
    a, b = torch.rand(1024, 1024), torch.rand(1024, 1024)

    def our_attack() -> Tensor:
        return pgd(ours, x, y, threat, start=start, n_steps=STEPS, step_size=STEP_SIZE)

    def step(model: nn.Module, x_adv: Tensor) -> None:
        model.zero_grad(set_to_none=True)
        F.cross_entropy(model(x_adv), y).backward()

    seconds = medians(
        {
            "sgemm 1024": lambda: a @ b,
            "PGD, ours": our_attack,
            "PGD, plain loop": lambda: plain_pgd(plain, x, y, start),
            "training step, ours": lambda: step(ours, our_attack()),
            "training step, plain loop": lambda: step(plain, plain_pgd(plain, x, y, start)),
        }
    )
    machine = f"{platform.machine()}, 1 thread, torch {torch.__version__.split('+')[0]}"
    rows = [
        {"what": name, "milliseconds": round(1e3 * value, 3), "machine": machine} for name, value in seconds.items()
    ]
    write_csv(rows, Path("benchmarks/results.csv"))
    for row in rows:
        print(f"{row['what']:28} {row['milliseconds']:8.2f} ms")
    for kind in ("PGD", "training step"):
        print(f"{kind}: {seconds[f'{kind}, plain loop'] / seconds[f'{kind}, ours']:.2f} times the plain loop")


if __name__ == "__main__":
    main()
