"""Attack the full-set models of one ball with AutoAttack, on a part of the sample: a second opinion on PGD."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from robacc import plan
from robacc.balls import Ball, parse
from robacc.params import AutoAttack, Dataset
from robacc.training.jobs import model_name
from stages import cli

N_PARTS = 2  # tasks a model, so that no core waits long for the last one


@dataclass(frozen=True)
class Task:
    """A part of the images, one trained model, and the ball it is attacked in."""

    file: Path
    seed: int
    natural_fraction: float
    ball: Ball
    attacks: Sequence[str]
    part: int

    def __str__(self) -> str:
        return f"{self.file.parent.name}/{self.file.stem} in {self.ball}, part {self.part}"


def attack_one(  # noqa: ANN201
    task: Task,
    on_progress,  # noqa: ANN001
    *,
    test_set: Path,
    sample_seed: int,
    settings: AutoAttack,
    device: str,
):
    """Return the indices of the part's images, and which attack fooled the model first on each."""
    from robacc.attack.autoattack import autoattack
    from robacc.images import loading, sample
    from robacc.nets import model as nets
    from robacc.training import hardware

    model = hardware.for_evaluation(nets.load(task.file)[0], device)
    test, ball = loading.load(test_set), task.ball
    part = sample.balanced_order(test.y, seed=sample_seed)[: settings.n_images][task.part :: N_PARTS]
    x, y = test.batch(part)
    fooled_by = autoattack(model, x, y, ball.norm, ball.eps, attacks=task.attacks, seed=settings.seed)
    on_progress(len(task.attacks))
    return part.tolist(), fooled_by


def attacks_of(
    settings: AutoAttack, ball: Ball, natural_fraction: float, seed: int, attacked: Sequence[int]
) -> Sequence[str]:
    """Return the attacks that a model trained on `ball` meets, in their order; `attacked` are the ball's seeds."""
    rest = settings.rest
    runs_rest = str(ball) in rest.balls and natural_fraction == 0 and seed in attacked[: rest.n_seeds]
    return [*settings.attacks, *(rest.attacks if runs_rest else [])]


def tasks(ball: Ball, folder: Path, dataset: Dataset, settings: AutoAttack) -> list[Task]:
    """Return what is to be done: robust models in their own ball, standard ones in those that params.yaml names."""
    found, attacked = [], plan.attacked(dataset.seeds, ball)
    for attacked_in in map(parse, settings.standard_in) if ball.is_standard else [ball]:
        for fraction in plan.natural_fractions(dataset.natural, ball):
            for seed in attacked:
                file = folder / f"{model_name(seed, fraction)}.safetensors"
                attacks = attacks_of(settings, ball, fraction, seed, attacked)
                found += [Task(file, seed, fraction, attacked_in, attacks, part) for part in range(N_PARTS)]
    return found


def main(args: argparse.Namespace) -> None:
    """Write results/autoattack/<dataset>-<ball>.csv: a row an image, with the first attack that fools each model."""
    from robacc import params
    from robacc.files import write_csv
    from robacc.parallel import parallel

    p = params.load()
    settings, dataset = p.autoattack[args.dataset], p.datasets[args.dataset]
    name = f"{args.dataset}-{args.ball}"
    models = tasks(args.ball, Path("models") / name, dataset, settings)
    test_set = Path("data") / args.dataset / "test.safetensors"
    given = {"test_set": test_set, "sample_seed": dataset.sample_seed, "settings": settings}
    work = partial(attack_one, **given, device=p.training.hardware)
    n_attacks = [len(task.attacks) for task in models]
    results = parallel(work, models, units=n_attacks, unit="attacks", n_workers=cli.n_workers())
    rows = []
    for task, (indices, fooled_by) in zip(models, results, strict=True):
        model: dict = {"seed": task.seed, "natural_fraction": task.natural_fraction}
        model |= {"norm": task.ball.norm, "eps": task.ball.eps, "attacks": " ".join(task.attacks)}
        found = zip(indices, fooled_by, strict=True)
        rows += [{**model, "image": image, "fooled_by": first} for image, first in found]
    write_csv(rows, Path("results/autoattack") / f"{name}.csv")


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__, "dataset", "ball"))
