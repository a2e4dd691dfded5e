"""Time what this project spends its hours on, beside the peers: `make bench`.

Contestants take turns in one process, medians are compared, and ratios are what to quote. Writes
benchmarks/results.csv and growth.csv, and a plot of each.
"""

import multiprocessing as mp
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.contestants import PEERS, by_torchattacks, ours
from benchmarks.nets import multiply_adds, plain
from robacc import parallel
from robacc.attack.adversary import smallest_fooling_eps
from robacc.attack.norms import threat_model
from robacc.attack.pgd import pgd, random_start
from robacc.balls import Ball
from robacc.files import must_exist, write_csv
from robacc.images import in_memory, loading
from robacc.nets import cifar_resnet
from robacc.nets import model as nets
from robacc.params import Attack, Recipe
from robacc.params import load as load_params
from robacc.report.plotting import save, use_style
from robacc.seeding import generator
from robacc.training import store
from robacc.training.jobs import Job, model_name

FOLDER = Path("benchmarks")
BATCH, N_STEPS = 100, 5
HOW: dict = {"eps": 0.3, "step_size": 0.15, "n_steps": N_STEPS}


def medians(contestants: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each contestant over alternating rounds, the first two not counted."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds + 2):
        for name, run in contestants.items():
            begin = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values[2:]) for name, values in times.items()}


def once(contestants: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return the seconds of one run of each contestant: for what takes long enough to need no median."""
    times = {}
    for name, run in contestants.items():
        begin = time.perf_counter()
        run()
        times[name] = time.perf_counter() - begin
    return times


def training_step(net: nn.Module, attack: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> None:
    """Do one adversarial training step but for the optimiser's."""
    x_adv = attack(x, y)
    net.zero_grad(set_to_none=True)
    F.cross_entropy(net(x_adv), y).backward()


def loops(name: str, net: nn.Sequential, shape: tuple[int, ...], batch: int, rounds: int) -> list[dict]:
    """Time PGD and the training step of every contestant on one net, with one and two threads.

    Peers get the net as PyTorch would build it, and the fastest of them also ours: its layout pays for any attack.
    """
    torch.manual_seed(0)
    x, y = torch.rand(batch, *shape), torch.randint(0, 10, (batch,))
    their_net = plain(net).eval()
    work = multiply_adds(their_net, x)
    attacks = {"ours": ours(net, **HOW)} | {peer: make(their_net, **HOW) for peer, make in PEERS.items()}
    nets: dict[str, nn.Module] = dict.fromkeys(attacks, their_net) | {"ours": net}
    attacks["torchattacks, our net"], nets["torchattacks, our net"] = by_torchattacks(net, **HOW), net
    kinds = {
        "PGD": (4 * N_STEPS, {peer: partial(attack, x, y) for peer, attack in attacks.items()}),
        "training step": (
            4 * N_STEPS + 6,
            {peer: partial(training_step, nets[peer], attack, x, y) for peer, attack in attacks.items()},
        ),
    }
    rows = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for what, (per_image, runs) in kinds.items():
            for peer, seconds in medians(runs, rounds).items():
                share = per_image * work * batch / seconds / sgemm(threads)
                rows.append(row(what, name, peer, threads, seconds, share))
    return rows


@cache
def sgemm(threads: int) -> float:
    """Return the float32 operations a second of a large matrix product with as many threads as are set now."""
    assert torch.get_num_threads() == threads
    a = torch.rand(2048, 2048)
    return 2 * 2048**3 / min(medians({"": lambda: a @ a}, 5).values())


def row(what: str, net: str, contestant: str, threads: int, seconds: float, share: float | None = None) -> dict:
    """Return a row of the table and print it."""
    shown = "" if share is None else f"{share:7.0%} of sgemm"
    print(f"{what:14} {net:30} {contestant:32} {threads} threads {1e3 * seconds:9.1f} ms {shown}", flush=True)
    values = {"what": what, "net": net, "contestant": contestant, "threads": threads}
    return {
        **values,
        "milliseconds": round(1e3 * seconds, 2),
        "share_of_sgemm": None if share is None else round(share, 3),
    }


def evaluations(n_images: int = 1000) -> list[dict]:
    """Time the accuracy-against-eps curve of 4 eps on one thread, from 2 random starts at each.

    The peer takes 40 steps of 2.5 eps / 40. Ours takes as many, or 20, that shrink from eps to 0. Robust accuracies
    stand beside the times.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)  # of the peer's random starts
    x, y = loading.load(must_exist(Path("data/mnist/test.safetensors"))).first(n_images)
    grid = [0.05, 0.1, 0.2, 0.3]
    short, long = (
        Attack(
            quick_steps=n,
            n_steps=n,
            step_size=1.0,
            first_radius=1.0,
            restarts=[0.0],
            n_queries={"l2": 0, "linf": 0},
        )
        for n in (20, 40)
    )
    rows, first = [], load_params().datasets["mnist"].seeds.first
    for name in ("standard", "linf-0.1"):
        net, _ = nets.load(Path(f"models/mnist-{name}/{model_name(first, 0.0)}.safetensors"))
        assert isinstance(net, nn.Sequential)
        their_net = plain(net).eval()
        found: dict[str, list[float]] = {}

        def dropping(name: str, settings: Attack, net: nn.Module = net, found: dict = found) -> None:
            outcome = smallest_fooling_eps(net, x, y, "linf", grid, settings, seed=0)
            found[name] = [(outcome > eps).double().mean().item() for eps in grid]

        def curve(attack: Callable[[Tensor, Tensor, float], Tensor], victim: nn.Module) -> list[float]:
            shares = []
            for eps in grid:
                right = torch.ones(len(x), dtype=torch.bool)
                for _ in range(2):
                    x_adv = torch.cat([attack(*part, eps) for part in zip(x.split(500), y.split(500), strict=True)])
                    right &= nets.predict(victim, x_adv) == y
                shares.append(right.double().mean().item())
            return shares

        def keeping(net: nn.Module = net, found: dict = found) -> None:
            starts = generator(0)

            def attack(x: Tensor, y: Tensor, eps: float) -> Tensor:
                start = random_start(x, threat_model("linf", eps), starts)
                return pgd(net, x, y, threat_model("linf", eps), start=start, n_steps=40, step_size=0.0625 * eps)

            found["ours, no example leaves"] = curve(attack, net)

        def peer(net: nn.Module = their_net, found: dict = found) -> None:
            def attack(x: Tensor, y: Tensor, eps: float) -> Tensor:
                return by_torchattacks(net, eps=eps, step_size=0.0625 * eps, n_steps=40, random_start=True)(x, y)

            found["torchattacks"] = curve(attack, net)

        ours_in = {"ours, 20 steps": short, "ours, 40 steps": long}
        runs = {name: partial(dropping, name, settings) for name, settings in ours_in.items()}
        runs |= {"ours, no example leaves": keeping, "torchattacks": peer}
        for contestant, seconds in once(runs).items():
            accuracies = " ".join(f"{100 * share:.1f}" for share in found[contestant])
            rows.append({**row("evaluation", f"{name} net", contestant, 1, seconds), "robust_accuracy": accuracies})
    return rows


def recipe(n_steps: int) -> Recipe:
    """Return the laptop recipe with `n_steps` optimiser steps and the attack of `HOW`."""
    values = load_params().recipes["mnist-laptop"].model_dump()
    attack = {"attack_steps": N_STEPS, "attack_step_size": HOW["step_size"] / HOW["eps"], "eps_warmup": 0.0}
    return Recipe(**{**values, **attack, "steps": [[1, n_steps]]})


def our_sweep(n_jobs: int, n_steps: int, n_workers: int) -> float:
    """Return the seconds that `sweep` takes for robust nets on made-up images."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pixels = torch.randint(0, 256, (6000, 1, 28, 28), dtype=torch.uint8, generator=generator(0))
        in_memory.save(pixels, torch.arange(6000) % 10, folder / "train.safetensors")
        jobs = [Job(Ball("linf", 0.3), 6000, seed) for seed in range(n_jobs)]
        settings = {"log_every": n_steps, "checkpoint_every": n_steps}
        begin = time.perf_counter()
        store.train_all(
            jobs,
            train_set=folder / "train.safetensors",
            recipe=recipe(n_steps),
            settings=settings,
            checkpoints=folder,
            n_workers=n_workers,
        )
        return time.perf_counter() - begin


def sweep_with_memory(n_jobs: int, n_steps: int, n_workers: int) -> tuple[float, float]:
    """Return the seconds of `our_sweep`, and the largest peak of memory of all its workers in megabytes."""
    seconds = our_sweep(n_jobs, n_steps, n_workers)
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def their_sweep(n_jobs: int, n_steps: int) -> float:
    """Return the seconds of a sequential loop with torchattacks and two threads for the same jobs."""
    torch.set_num_threads(2)
    x, y = torch.rand(6000, 1, 28, 28), torch.arange(6000) % 10
    begin = time.perf_counter()
    for seed in range(n_jobs):
        net = nets.build("narrow_cnn", mean=[0.1307], std=[0.3081], seed=seed)
        assert isinstance(net, nn.Sequential)
        net = plain(net)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.003)
        attack = by_torchattacks(net, **HOW)
        for _ in range(n_steps):
            batch = torch.randint(0, 6000, (BATCH,))
            training_step(net, attack, x[batch], y[batch])
            optimizer.step()
    return time.perf_counter() - begin


def sweeps(n_jobs: int = 8, n_steps: int = 60) -> list[dict]:
    """Time eight models on all cores against a sequential loop of the fastest peer, start of the workers included."""
    net, images = plain(nets.build("narrow_cnn", mean=[0.0], std=[1.0], seed=0)), n_jobs * n_steps * BATCH
    torch.set_num_threads(1)
    work = (4 * N_STEPS + 6) * multiply_adds(net, torch.rand(1, 1, 28, 28)) * images
    peak = 2 * sgemm(1)  # of two cores with a job each
    runs = {
        "ours": lambda: our_sweep(n_jobs, n_steps, 2),
        "torchattacks, in sequence": lambda: their_sweep(n_jobs, n_steps),
    }
    times = {name: run() for name, run in runs.items()}
    return [row("sweep of 8", "narrow_cnn", name, 2, time, work / time / peak) for name, time in times.items()]


def growth() -> list[dict]:
    """Measure how time grows with jobs, steps, images and workers, and memory with jobs."""
    rows = []
    for n_jobs in (2, 4, 8):
        # A process of its own, as the peak of its children is never forgotten.
        with ProcessPoolExecutor(1, mp.get_context("spawn")) as pool:
            seconds, memory = pool.submit(sweep_with_memory, n_jobs, 60, 2).result()
        rows.append({"axis": "jobs", "value": n_jobs, "seconds": seconds, "megabytes_a_process": memory})
    rows += [{"axis": "steps", "value": n, "seconds": our_sweep(2, n, 2)} for n in (30, 60, 120)]
    rows += [{"axis": "workers", "value": n, "seconds": our_sweep(4, 60, n)} for n in (1, 2)]
    torch.set_num_threads(1)
    net = nets.build("narrow_cnn", mean=[0.0], std=[1.0], seed=0)
    for n_images in (50, 100, 200, 400):
        x, y = torch.rand(n_images, 1, 28, 28), torch.randint(0, 10, (n_images,))
        seconds = medians({"": lambda x=x, y=y: ours(net, **HOW)(x, y)}, 10)[""]
        rows.append({"axis": "images", "value": n_images, "seconds": seconds})
    return rows


def draw(results: pd.DataFrame, grown: pd.DataFrame, machine: str) -> None:
    """Draw the speed of every contestant against the fastest peer, and how cost grows."""
    timed = results[(results.threads == 1) & results.what.isin(["PGD", "training step"])]
    panels = list(timed.groupby(["what", "net"], sort=False))
    use_style()
    fig, axes = plt.subplots(2, 3, figsize=(13, 5.6), layout="constrained")
    for axis, ((what, net), panel) in zip(axes.flat, sorted(panels, key=lambda panel: panel[0][0]), strict=True):
        rows = panel.sort_values("milliseconds", ascending=False)
        colors = ["#1f5a96" if name == "ours" else "#b5bcc4" for name in rows.contestant]
        axis.barh(rows.contestant, rows.milliseconds, color=colors)
        axis.set_title(f"{what}, {net}", fontsize=9)
        axis.set_xlabel("milliseconds, one thread", fontsize=8)
        axis.tick_params(labelsize=7)
    fig.suptitle(machine, fontsize=8)
    save(fig, "results", FOLDER)
    fig, axes = plt.subplots(1, 4, figsize=(12, 3), layout="constrained")
    for axis, (name, rows) in zip(axes.flat, grown.groupby("axis", sort=False), strict=True):
        axis.plot(rows.value, rows.seconds, "o-")
        axis.set(xlabel=name, ylabel="seconds", xlim=(0, None), ylim=(0, None))
    save(fig, "growth", FOLDER)


def main() -> None:
    """Measure, print, write the tables and the plots."""
    parallel.keep_freed_memory()
    small, large = (nets.build(arch, mean=[0.0], std=[1.0], seed=0).eval() for arch in ("narrow_cnn", "paper_cnn"))
    results = sweeps() + evaluations()
    for name, net, shape, batch, rounds in (
        ("narrow_cnn", small, (1, 28, 28), BATCH, 40),
        ("paper_cnn", large, (1, 28, 28), 50, 4),
        ("CIFAR ResNet", cifar_resnet.net(10).eval(), (3, 32, 32), 16, 3),
    ):
        # A process of its own, as every training has: no other work has left its traces in caches and heap.
        with ProcessPoolExecutor(1, mp.get_context("spawn"), parallel.keep_freed_memory) as pool:
            results += pool.submit(loops, name, net, shape, batch, rounds).result()
    machine = f"{platform.machine()}, {torch.__version__.split('+')[0]}, Python {sys.version.split()[0]}, {cpu()}"
    table, grown = pd.DataFrame(results).assign(machine=machine), pd.DataFrame(growth())
    write_csv(table, FOLDER / "results.csv")
    write_csv(grown.round(3), FOLDER / "growth.csv")
    draw(table, grown, machine)


def cpu() -> str:
    """Return the name of the processor, as Linux gives it."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()


if __name__ == "__main__":
    main()
