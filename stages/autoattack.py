"""Attack the full-set models of one ball with AutoAttack, on the first test images: a second opinion on PGD."""

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


def attack_one(task: Task, on_progress, *, test_set: Path, settings: AutoAttack, device: str):  # noqa: ANN001, ANN201
    """Return which attack fooled the model first, for each image of the part."""
    from robacc.attack.autoattack import autoattack
    from robacc.images import loading
    from robacc.nets import model as nets
    from robacc.training import hardware

    model = hardware.for_evaluation(nets.load(task.file)[0], device)
    x, y = loading.load(test_set).first(settings.n_images)
    part, ball = slice(task.part, None, N_PARTS), task.ball
    fooled_by = autoattack(model, x[part], y[part], ball.norm, ball.eps, attacks=task.attacks, seed=settings.seed)
    on_progress(len(task.attacks))
    return fooled_by


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
    settings = p.autoattack[args.dataset]
    name = f"{args.dataset}-{args.ball}"
    models = tasks(args.ball, Path("models") / name, p.datasets[args.dataset], settings)
    test_set = Path("data") / args.dataset / "test.safetensors"
    work = partial(attack_one, test_set=test_set, settings=settings, device=p.training.hardware)
    n_attacks = [len(task.attacks) for task in models]
    results = parallel(work, models, units=n_attacks, unit="attacks", n_workers=cli.n_workers())
    rows = []
    for task, fooled_by in zip(models, results, strict=True):
        model: dict = {"seed": task.seed, "natural_fraction": task.natural_fraction}
        model |= {"norm": task.ball.norm, "eps": task.ball.eps, "attacks": " ".join(task.attacks)}
        rows += [{**model, "image": task.part + N_PARTS * i, "fooled_by": first} for i, first in enumerate(fooled_by)]
    write_csv(rows, Path("results/autoattack") / f"{name}.csv")


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__, "dataset", "ball"))
