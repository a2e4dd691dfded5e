"""Check and measure what this project does on a GPU, in under ten minutes: `make gpu-check`.

Without a GPU the same code runs on the CPU with small sizes, and the table says what was left out. Every row is written
as soon as it is measured: benchmarks/gpu/<device>.csv, and the same as tables in <device>.md.
"""

import argparse
import gc
import json
import multiprocessing as mp
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from scipy import stats
from torch import Tensor, nn

from benchmarks.nets import multiply_adds
from robacc import parallel
from robacc.attack.adversary import smallest_fooling_eps
from robacc.attack.answers import answers
from robacc.attack.autoattack import ATTACKS, autoattack
from robacc.attack.evaluation import evaluate
from robacc.attack.pgd import pgd
from robacc.balls import STANDARD, Ball, parse
from robacc.datasets import facts
from robacc.files import write_csv, write_text
from robacc.images import in_memory, loading
from robacc.images.sample import balanced_order
from robacc.nets import model as nets
from robacc.params import Params, Recipe
from robacc.params import load as load_params
from robacc.seeding import generator
from robacc.training import distributed, hardware, store
from robacc.training import train as training
from robacc.training.hardware import Hardware
from robacc.training.jobs import Job
from robacc.training.world import World

FOLDER = Path("benchmarks/gpu")
# Operations a second of one GPU that the estimates of docs/costs.md assumed before any GPU was at hand.
ASSUMED = {"mnist": 5e12, "cifar10": 5e12, "restricted_imagenet": 25e12}
SHORT = {"mnist": "mnist-laptop", "cifar10": "cifar10-paper"}  # the recipes of the short trainings
PARTS = ["choice", "step", "torchrun", "learn"]
NEVER = 10**9  # steps between two checkpoints


@dataclass(frozen=True)
class Sizes:
    """How much is run: on a GPU, or what a CPU does in a minute or two."""

    warm_up: int  # steps before those that are timed: compilation, recording of CUDA graphs, cuDNN's choice of kernels
    timed: int  # steps at least
    seconds: float  # that the timed steps of one variant take together, at least
    batch: int | None  # of a timed step; None is the recipe's own
    n_seeds: int  # of the short trainings
    steps: dict[str, int | None]  # of the short trainings of a data set; None is as many as the recipe has
    n_attacked: int  # test images of robust accuracy
    n_autoattack: int  # test images of AutoAttack
    attacks: tuple[str, ...]  # of AutoAttack, where the pipeline runs it; APGD on cross-entropy runs everywhere


ON_GPU = Sizes(4, 3, 1.5, None, 4, {"mnist": None, "cifar10": 400}, 500, 128, ATTACKS)
ON_CPU = Sizes(1, 1, 0.0, 2, 1, {"mnist": 40, "cifar10": 2}, 32, 4, ("apgd-ce",))


# ---- The table ----------------------------------------------------------------------------------------------------


@dataclass
class Table:
    """The rows of all parts in the order of measurement, and when to stop, on the clock of `time.monotonic`."""

    path: Path  # without a suffix
    until: float
    rows: list[dict] = field(default_factory=list)

    def add(self, part: str, case: str, setting: str = "", **measures: object) -> None:
        """Add a row, print it, write the table."""
        values = {name: float(f"{v:.4g}") if isinstance(v, float) else v for name, v in measures.items()}
        self.rows.append({"part": part, "case": case, "setting": setting, **values})
        print(f"{part:10} {case:36} {setting:26}", *(f"{name} {value}; " for name, value in values.items()), flush=True)
        write_csv(self.rows, self.path.with_suffix(".csv"))
        write_text(markdown(self.rows), self.path.with_suffix(".md"))

    def skip(self, part: str, case: str, why: str) -> None:
        """Add a row that says what was left out, and why."""
        self.add(part, case, note=f"skipped: {why}")

    def measure(self, part: str, case: str, setting: str, work: Callable[[], dict]) -> None:
        """Add what `work` returns. An error becomes the row's note, and ends nothing else."""
        if time.monotonic() > self.until:
            self.skip(part, f"{case} {setting}", "the time was up; --minutes gives more")
            return
        try:
            measures = work()
        except Exception as error:  # noqa: BLE001 (of any part, as the others are still worth their time)
            lines = str(error).splitlines() or [""]
            measures = {"note": f"FAILED: {type(error).__name__}: {lines[0][:300]}"}
        self.add(part, case, setting, **measures)

    def failed(self) -> int:
        """Return how many rows failed."""
        return sum(str(row.get("note", "")).startswith("FAILED") for row in self.rows)


def markdown(rows: list[dict]) -> str:
    """Return the rows as one table a part, with the columns that the part has."""
    lines = ["What `make gpu-check` measured. The same as numbers: the .csv beside this file.", ""]
    for part in dict.fromkeys(row["part"] for row in rows):
        own = [row for row in rows if row["part"] == part]
        columns = list(dict.fromkeys(key for row in own for key in row if key != "part"))
        columns = [name for name in columns if any(row.get(name, "") != "" for row in own)]
        lines += [f"## {part}", "", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
        lines += [f"| {' | '.join(str(row.get(name, '')) for name in columns)} |" for row in own]
        lines += [""]
    return "\n".join(lines)


# ---- A training step ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Timed(in_memory.Images):
    """Images that note the seconds that each batch took."""

    seconds: list[float] = field(default_factory=list)

    def training_batches(self, *args: Any, **kwargs: Any) -> Iterator[tuple[Tensor, Tensor]]:  # noqa: ANN401
        """Yield what `Images` yields."""
        begin = time.perf_counter()
        for batch in super().training_batches(*args, **kwargs):
            self.seconds.append(time.perf_counter() - begin)
            yield batch
            begin = time.perf_counter()


def made_up(dataset: str, n: int) -> Timed:
    """Return `n` random images of the size and the classes of `dataset`."""
    of = facts.of(dataset)
    x = torch.randint(0, 256, (n, of.channels, of.size, of.size), dtype=torch.uint8, generator=generator(0))
    return Timed(x, torch.arange(n) % len(of.classes), "")


class _Enough(Exception):  # noqa: N818
    """Ends a training whose steps have been timed."""


def timed_steps(images: Timed, job: Job, recipe: Recipe, chosen: Hardware, sizes: Sizes) -> list[float]:
    """Return the time of the start and of every step of `training.train`, until `sizes` has enough of them."""
    times: list[float] = []

    def on_step(_: int) -> None:
        times.append(time.perf_counter())
        timed = times[sizes.warm_up :]
        if len(timed) > sizes.timed and timed[-1] - timed[0] >= sizes.seconds:
            raise _Enough

    with mock.patch.object(training, "choose", lambda *_, **__: chosen), tempfile.TemporaryDirectory() as folder:
        files: dict = {"checkpoint": Path(folder) / "none", "checkpoint_every": NEVER, "log_every": NEVER}
        try:
            training.train(job, images, recipe, on_step=on_step, **files)
        except _Enough:
            return times
    raise ValueError(f"expected a recipe of more than {sizes.warm_up + sizes.timed} steps, got {len(times) - 1}")


def step(p: Params, dataset: str, ball: Ball, chosen: Hardware, sizes: Sizes) -> dict:
    """Return time, speed and memory of a step of the paper's recipe, in the training loop with made-up images.

    Operations are counted as docs/costs.md does: (4 x attack steps + 6) x multiply-adds an image.
    """
    recipe = p.recipes[facts.of(dataset).paper_recipe]
    n_steps = training.n_steps(recipe, p.datasets[dataset].n_train)
    batch = sizes.batch or recipe.batch_size
    augment = (
        "none" if recipe.augment == "random_crop" else recipe.augment
    )  # that one is for files, whose decoding is not timed
    recipe = recipe.model_copy(update={"batch_size": batch, "augment": augment})
    images = made_up(dataset, 4 * batch)
    cuda = chosen.device.type == "cuda"
    if cuda:
        torch._dynamo.reset()  # frees the memory that CUDA graphs keep
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    times = timed_steps(images, Job(ball, len(images), 0), recipe, chosen, sizes)
    seconds = statistics.median(after - before for before, after in pairwise(times[sizes.warm_up :]))
    net = nets.build(recipe.arch, mean=recipe.mean, std=recipe.std, seed=0, n_classes=recipe.n_classes).eval()
    passes = 6 if ball.is_standard else 4 * recipe.attack_steps + 6
    work = passes * multiply_adds(net, images.first(1)[0]) * batch
    return {
        "ms_a_step": 1e3 * seconds,
        "of_it_loading": 1e3 * statistics.median(images.seconds[sizes.warm_up :]),
        "images_a_second": batch / seconds,
        "tflops": work / seconds / 1e12,
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9 if cuda else "",
        "seconds_to_step_1": times[1] - times[0],
        "hours_a_model": n_steps * seconds / 3600 if cuda else "",
        "hours_estimated": n_steps * work / ASSUMED[dataset] / 3600 if cuda else "",
        "note": f"batch {batch} of {p.recipes[facts.of(dataset).paper_recipe].batch_size}" if sizes.batch else "",
    }


class GraphACall(Hardware):
    """CUDA graphs of each call of the net, as torch.compile makes them, instead of one of the whole attack."""

    def prepare(self, model: nn.Module) -> nn.Module:
        """Return `model` as `Hardware` prepares it, compiled in one way for training and attack."""
        plain = Hardware(**{**vars(self), "compile_mode": None}).prepare(model).forward

        def net(x: Tensor) -> Tensor:
            return plain(x)

        model.forward = torch.compile(net, mode=self.compile_mode)
        return model

    def attack(self) -> Callable[..., Tensor]:
        """Return `pgd` itself."""
        return pgd


def variants() -> dict[str, Hardware]:
    """Return what is compared with the hardware that is chosen."""
    auto = hardware.choose("cuda", local_rank=0, n_processes=1)
    name = str(auto.precision).removeprefix("torch.")
    return {
        f"{name} compiled, a graph a call": GraphACall(**vars(auto)),
        f"{name} compiled, no graphs": replace(auto, compile_mode="default"),
        f"{name}": replace(auto, compile_mode=None),
        "float32": hardware.choose("cuda-fp32", local_rank=0, n_processes=1),
    }


def compare_steps(table: Table, p: Params, dataset: str, sizes: Sizes) -> None:
    """Add the rows of every variant of a step."""
    for name, other in variants().items():
        for ball in (parse(p.visualize[dataset].judges.ball), STANDARD):
            table.measure("step", f"{dataset} {ball}", name, partial(step, p, dataset, ball, other, sizes))


# ---- Short trainings in both precisions ---------------------------------------------------------------------------


def learn(dataset: str, balls: list[Ball], setting: str, sizes: Sizes, keep: Path) -> list[dict]:
    """Train short models with `store.train_all`, as the stages do, and return the accuracies of each.

    Several processes share the GPU. The file of seed 0 in the last ball is copied to `keep`.
    """
    p = load_params()
    recipe = p.recipes[SHORT[dataset]]
    if n_steps := sizes.steps[dataset]:
        recipe = recipe.model_copy(update={"steps": [[1, n_steps]]})
    data = Path("data") / dataset
    n_train = len(loading.load(data / "train.safetensors"))
    jobs = [Job(ball, n_train, seed) for ball in balls for seed in range(sizes.n_seeds)]
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        files = store.train_all(
            jobs,
            train_set=data / "train.safetensors",
            recipe=recipe,
            settings={"log_every": 50, "checkpoint_every": NEVER, "hardware": setting},
            checkpoints=Path(folder),
            n_workers=min(sizes.n_seeds, os.cpu_count() or 1),
        )
        seconds = time.perf_counter() - begin
        keep.write_bytes(files[-sizes.n_seeds].read_bytes())
        x, y = loading.load(data / "test.safetensors").first()
        sample = balanced_order(y, seed=0)[: sizes.n_attacked]
        settings, rows = p.evaluate[dataset].attack, []
        for job, file in zip(jobs, files, strict=True):
            model = hardware.for_evaluation(nets.load(file)[0], setting)
            right = (answers(model, x, y)[1] < 0).double().mean().item()
            row = {"ball": str(job.ball), "standard": right, "robust": float("nan"), "seconds": seconds / len(jobs)}
            if not job.ball.is_standard:
                of = x[sample], y[sample], job.ball.norm, [job.ball.eps]
                fooling = smallest_fooling_eps(model, *of, settings, seed=0)
                row["robust"] = (fooling > job.ball.eps).double().mean().item()
            rows.append(row)
    return rows


def difference(mixed: list[float], exact: list[float]) -> dict:
    """Return the mean difference of accuracies of the same seeds in points, with a 95 % interval of Student's t."""
    points = [100 * (one - other) for one, other in zip(mixed, exact, strict=True)]
    mean = statistics.mean(points)
    half = stats.t.ppf(0.975, len(points) - 1) * statistics.stdev(points) / len(points) ** 0.5
    inside = "yes" if abs(mean) <= half else "NO"
    return {"points": mean, "interval": f"[{mean - half:+.2f}, {mean + half:+.2f}]", "0_inside": inside}


def precisions(table: Table, dataset: str, balls: list[Ball], settings: list[str], sizes: Sizes, keep: Path) -> None:
    """Add the accuracies of short trainings in each of `settings`, and the differences of the first two."""
    part, found = "accuracy", {}
    for setting in settings:

        def work(setting: str = setting) -> dict:
            found[setting] = in_child(learn, dataset, balls, setting, sizes, keep)
            return {"models": len(found[setting]), "seconds_a_model": found[setting][0]["seconds"]}

        table.measure(part, f"{dataset}, {sizes.steps[dataset] or 'all'} steps", setting, work)
    for ball in balls if found else ():
        for kind in ("standard",) if ball.is_standard else ("standard", "robust"):
            columns = {
                setting: [row[kind] for row in rows if row["ball"] == str(ball)] for setting, rows in found.items()
            }
            means = {f"{setting}_percent": 100 * statistics.mean(values) for setting, values in columns.items()}
            if len(columns) == 2:
                means |= difference(columns[settings[1]], columns[settings[0]])
            table.add(part, f"{dataset} {ball}, {kind} accuracy", f"{sizes.n_seeds} seeds", **means)


def in_child(work: Callable[..., Any], *args: object) -> Any:  # noqa: ANN401
    """Return `work(*args)` of a process of its own: stages fork before CUDA starts, and have PyTorch's own switches."""
    with ProcessPoolExecutor(1, mp.get_context("spawn"), initializer=_child) as pool:
        return pool.submit(work, *args).result()


def _child() -> None:
    torch.set_num_threads(1)
    parallel.keep_freed_memory()


# ---- Evaluation and AutoAttack ------------------------------------------------------------------------------------


def attacked(where: str, file: Path, dataset: str, ball: Ball, sizes: Sizes) -> tuple[list, float, list[str], float]:
    """Return the outcomes of evaluation and of AutoAttack of the model in `file`, each with its seconds.

    `where` is "cpu", "cuda" (the model there, the images here, as in the pipeline), or "cuda, images too".
    """
    p = load_params()
    model, settings = nets.load(file)[0], p.evaluate[dataset].attack
    x, y = loading.load(Path("data") / dataset / "test.safetensors").first(2000)
    if where == "cuda, images too":
        model, x, y = model.cuda(), x.cuda(), y.cuda()
    else:
        model = hardware.for_evaluation(model, where)
    model(x[:1]).sum().item()  # CUDA starts outside the time
    begin = time.perf_counter()
    counts = {"n_robust": sizes.n_attacked, "n_checked": min(64, sizes.n_attacked)}
    grid = sorted({*p.evaluate[dataset].eps[ball.norm], ball.eps})
    outcomes, _ = evaluate(model, x, y, ball.norm, grid, settings, seed=0, **counts)
    evaluated = time.perf_counter()
    few = slice(sizes.n_autoattack)
    attacks = sizes.attacks if where == "cuda" else sizes.attacks[:1]
    fooled_by = autoattack(model, x[few], y[few], ball.norm, ball.eps, attacks=attacks, seed=0)
    return outcomes.fooling_eps.tolist(), evaluated - begin, fooled_by, time.perf_counter() - evaluated


def attacks_of(table: Table, file: Path, dataset: str, ball: Ball, places: list[str], sizes: Sizes) -> None:
    """Add how the outcomes of `places` differ from those of the first, image by image, and the seconds of each."""
    found: dict[str, tuple] = {}
    for where in places:

        def work(where: str = where) -> dict:
            found[where] = mine = in_child(attacked, where, file, dataset, ball, sizes)
            first = found[places[0]]
            return {
                "images": sizes.n_attacked,
                "evaluation_seconds": mine[1],
                "robust_percent": 100 * statistics.mean(eps > ball.eps for eps in mine[0]),
                "other_eps": sum(one != other for one, other in zip(mine[0], first[0], strict=True)),
                "autoattack_images": sizes.n_autoattack,
                "autoattack_seconds": mine[3],
                "by_apgd_ce": mine[2].count("apgd-ce"),
                "by_the_rest": sum(name in ATTACKS[1:] for name in mine[2]),
            }

        table.measure("attacks", f"{dataset} {ball}", where, work)


# ---- Several processes --------------------------------------------------------------------------------------------


@contextmanager
def world(device_type: str) -> Iterator[World]:
    """Yield the world of torchrun. One process on a GPU is a group too here, so that the code of groups runs."""
    if os.environ["WORLD_SIZE"] != "1":
        with distributed.group(device_type) as several:
            yield several
        return
    dist.init_process_group("nccl" if device_type == "cuda" else "gloo")
    try:
        yield distributed.Group(0, 1, 0, torch.device(device_type, 0) if device_type == "cuda" else torch.device("cpu"))
    finally:
        dist.destroy_process_group()


def two_steps(setting: str, among: World | None = None) -> list[float]:
    """Return the losses of two robust steps of CIFAR-10's paper recipe, in one process or in those of `among`."""
    p, n = load_params(), 128 if torch.cuda.is_available() else 4
    recipe = p.recipes["cifar10-paper"].model_copy(update={"steps": [[1, 2]], "batch_size": n})
    job, images = Job(parse(p.visualize["cifar10"].judges.ball), 4 * n, 0), made_up("cifar10", 4 * n)
    files = {"checkpoint": Path("no checkpoint"), "checkpoint_every": NEVER, "log_every": 1}
    more = {"world": among} if among else {}
    return [row["loss"] for row in training.train(job, images, recipe, hardware=setting, **files, **more).log]


def torchrun(table: Table, settings: list[str]) -> None:
    """Add two steps on every GPU, or in two processes on the CPU, beside those of one process."""
    n = torch.cuda.device_count() or 2
    for setting in settings:

        def work(setting: str = setting) -> dict:
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder) / "losses.json"
                start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n)]
                command = [*start, "-m", "benchmarks.gpu_check", "--two-steps", setting, str(out.resolve())]
                done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
                if done.returncode:
                    lines = [line for line in done.stderr.splitlines() if re.search(r"Error\b", line)]
                    raise RuntimeError(lines[0] if lines else done.stderr[-300:])
                several = json.loads(out.read_text(encoding="utf-8"))
            alone = in_child(two_steps, setting)
            gap = max(abs(one / other - 1) for one, other in zip(several, alone, strict=True))
            losses = " ".join(f"{loss:.5f}" for loss in several)
            return {"processes": n, "losses": losses, "relative_gap_to_one_process": gap}

        table.measure("torchrun", "cifar10, two robust steps", setting, work)


# ---- All of it ----------------------------------------------------------------------------------------------------


def machine() -> tuple[str, dict]:
    """Return the name of the device, and what else to know of the machine."""
    cuda = torch.cuda.is_available()
    versions = {"torch": torch.__version__, "cuda": torch.version.cuda or "", "python": platform.python_version()}
    cpu = {"cpu": processor(), "cores": os.cpu_count(), "date": datetime.now(UTC).date().isoformat()}
    if not cuda:
        return "CPU", {**versions, **cpu}
    about = torch.cuda.get_device_properties(0)
    gpu = {"gpus": torch.cuda.device_count(), "gb": about.total_memory / 1e9, "compute": f"{about.major}.{about.minor}"}
    return about.name, {**gpu, **versions, **cpu}


def processor() -> str:
    """Return the name of the processor, as Linux gives it."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def choices(table: Table) -> None:
    """Add what every setting of `training.hardware` chooses."""
    for setting in hardware.SETTINGS:
        for n in (1, 2):
            table.measure("choice", f"{setting}, {n} of a host", "", lambda s=setting, n=n: chosen(s, n))


def chosen(setting: str, n_processes: int) -> dict:
    """Return the fields of the hardware that `setting` chooses."""
    try:
        found = hardware.choose(setting, local_rank=0, n_processes=n_processes)
    except ValueError as error:
        return {"note": f"refused: {error}"}
    return {name: str(value) for name, value in vars(found).items()}


def run(table: Table, parts: list[str]) -> None:
    """Add the rows of `parts`, those of the dearest recipe's variants last."""
    cuda = torch.cuda.is_available()
    p, sizes = load_params(), ON_GPU if cuda else ON_CPU
    settings = ["cuda-fp32", "cuda"] if cuda else ["cpu"]
    if "choice" in parts:
        choices(table)
    if "step" in parts:
        steps(table, p, sizes)
    if "torchrun" in parts:
        torchrun(table, settings)
    if "learn" in parts:
        trained_on(table, settings, sizes)
    if "step" in parts and cuda:
        compare_steps(table, p, "restricted_imagenet", sizes)


def steps(table: Table, p: Params, sizes: Sizes) -> None:
    """Add the step of every paper recipe on the hardware that is chosen here, and the variants of the two cheaper."""
    auto = hardware.choose("auto", local_rank=0, n_processes=1)
    for dataset in ASSUMED:
        for ball in (parse(p.visualize[dataset].judges.ball), STANDARD):
            table.measure("step", f"{dataset} {ball}", "auto", partial(step, p, dataset, ball, auto, sizes))
    if auto.device.type == "cpu":
        table.skip("step", "mixed precision, compilation, CUDA graphs", "no GPU, and on a CPU none of them is chosen")
        return
    compare_steps(table, p, "cifar10", sizes)
    compare_steps(table, p, "mnist", sizes)


def trained_on(table: Table, settings: list[str], sizes: Sizes) -> None:
    """Add what needs the images of a data set: short trainings, evaluation and AutoAttack."""
    hardest = Ball("linf", 0.3)
    cases = {"mnist": [STANDARD, hardest], "cifar10": [STANDARD]}
    with tempfile.TemporaryDirectory() as folder:
        for dataset, balls in cases.items():
            file = Path(folder) / f"{dataset}.safetensors"
            if not (Path("data") / dataset / "train.safetensors").exists():
                table.skip(
                    "accuracy", dataset, f"no images in data/{dataset}; `python -m stages.fetch --dataset {dataset}`"
                )
                continue
            precisions(table, dataset, balls, settings, sizes, file)
            if len(settings) == 1:
                table.skip("accuracy", f"{dataset}, mixed precision against float32", "no GPU")
            if dataset == "mnist" and file.exists():
                places = ["cpu", "cuda", "cuda, images too"] if len(settings) > 1 else ["cpu"]
                attacks_of(table, file, dataset, hardest, places, sizes)
                if len(places) == 1:
                    table.skip("attacks", "mnist, on a GPU", "no GPU")


def main() -> None:
    """Measure, print, write the tables; with `--two-steps` be one of torchrun's processes."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--minutes", type=float, default=8.5, help="after which nothing new begins; default 8.5")
    arguments.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to run; default everything")
    arguments.add_argument("--two-steps", nargs=2, metavar=("SETTING", "FILE"), help=argparse.SUPPRESS)
    args = arguments.parse_args()
    torch.set_num_threads(1)
    if args.two_steps:
        setting, out = args.two_steps
        with world(hardware.device_type(setting)) as among:
            losses = two_steps(setting, among)
            if among.rank == 0:
                Path(out).write_text(json.dumps(losses), encoding="utf-8")
        return
    name, about = machine()
    table = Table(FOLDER / re.sub(r"[^a-z0-9]+", "-", name.lower()), time.monotonic() + 60 * args.minutes)
    table.add("machine", name, **about)
    run(table, args.parts)
    print(f"{len(table.rows)} rows, {table.failed()} failed: {table.path}.csv and .md")
    if table.failed():
        sys.exit(1)


if __name__ == "__main__":
    main()
