"""Measure attacks in bfloat16 on a CPU with units for it: `python -m benchmarks.bfloat16`, after `make repro`.

The precisions take turns in one process with one thread. Writes benchmarks/bfloat16.csv, a row for each net, and
benchmarks/bfloat16-accuracy.csv, a row for each seed of MNIST's default.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from robacc import balls
from robacc.attack.norms import threat_model
from robacc.attack.pgd import pgd, random_start
from robacc.files import write_csv
from robacc.images import loading
from robacc.images.sample import balanced_order
from robacc.nets import model as nets
from robacc.parallel import keep_freed_memory
from robacc.seeding import generator

NETS = {"narrow_cnn": (1, 28), "narrow_cnn_32": (3, 32), "narrow_cnn_64": (3, 64), "paper_cnn": (1, 28)}
BATCH, N_STEPS, RUNS, ROUNDS = 100, 3, 3, 7
BALLS, SEEDS, N_IMAGES, LONG = ("l2-1.5", "linf-0.3"), range(100, 105), 1000, 40


class Bfloat16(nn.Module):
    """A net that computes in bfloat16 where PyTorch's autocast does; its logits are float32."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [B, K] of `x` [B, C, H, W]."""
        with torch.autocast("cpu", torch.bfloat16):
            return self.net(x).float()


def ratio(float32: Callable[[], object], bfloat16: Callable[[], object]) -> float:
    """Return the time of `float32` in those of `bfloat16`: medians over alternating rounds, the first not counted."""
    times: list[list[float]] = [[], []]
    for _ in range(ROUNDS + 1):
        for run, seconds in zip((float32, bfloat16), times, strict=True):
            begin = time.thread_time()
            run()
            seconds.append(time.thread_time() - begin)
    slow, fast = (statistics.median(seconds[1:]) for seconds in times)
    return slow / fast


def speeds() -> list[dict]:
    """Return how many times as fast PGD is in bfloat16, for each net: the median of `RUNS`, the least and the most."""
    rows = []
    for arch, (channels, size) in NETS.items():
        net = nets.build(arch, mean=[0.5] * channels, std=[0.25] * channels, seed=0).eval()
        x, y = torch.rand(BATCH, channels, size, size), torch.arange(BATCH) % 10
        threat = threat_model("linf", 0.1)
        start = random_start(x, threat, generator(0, "bfloat16"))

        def attack(
            model: nn.Module, x: Tensor = x, y: Tensor = y, start: Tensor = start, threat: object = threat
        ) -> Tensor:
            return pgd(model, x, y, threat, start=start, n_steps=N_STEPS, step_size=0.08)  # type: ignore[arg-type]

        found = sorted(ratio(lambda: attack(net), lambda: attack(Bfloat16(net))) for _ in range(RUNS))  # noqa: B023
        rows.append({"net": arch, "times_as_fast": statistics.median(found), "least": found[0], "most": found[-1]})
        print(rows[-1], flush=True)
    return [{name: round(value, 2) if name != "net" else value for name, value in row.items()} for row in rows]


def accuracies() -> list[dict]:
    """Return the accuracy that PGD leaves to each net of the default when its gradients have either precision.

    The net that is judged is in float32, and so are the images and their starts.
    """
    x, y = loading.load(Path("data/mnist/test.safetensors")).first()
    chosen = balanced_order(y, seed=0)[:N_IMAGES]
    x, y = x[chosen], y[chosen]
    rows = []
    for name in BALLS:
        ball = balls.parse(name)
        threat = threat_model(ball.norm, ball.eps)
        for seed in SEEDS:
            net = nets.load(Path(f"models/mnist-{name}/seed{seed}-natural0.0.safetensors"))[0]
            start = random_start(x, threat, generator(seed, "bfloat16"))
            row: dict = {"ball": name, "seed": seed, "n": N_IMAGES}
            for precision, model in {"float32": net, "bfloat16": Bfloat16(net)}.items():
                parts = [
                    pgd(model, *part[:2], threat, start=part[2], n_steps=LONG, step_size=0.1 * ball.eps)
                    for part in nets.chunks(x, y, start)
                ]
                row[precision] = (nets.predict(net, torch.cat(parts)) == y).float().mean().item()
            rows.append({name: round(v, 4) if isinstance(v, float) else v for name, v in row.items()})
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Write both tables."""
    torch.set_num_threads(1)
    keep_freed_memory()
    write_csv(speeds(), Path("benchmarks/bfloat16.csv"))
    write_csv(accuracies(), Path("benchmarks/bfloat16-accuracy.csv"))


if __name__ == "__main__":
    main()
