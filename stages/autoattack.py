"""Attack the full-set models of one ball with AutoAttack, on the first test images: a second opinion on PGD."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from robacc.params import AutoAttackParams, Dataset, model_id
from stages import cli

N_PARTS = 2  # jobs a model, so that no core waits long for the last one


@dataclass(frozen=True)
class Job:
    """A part of the images, one trained model, and the ball it is attacked in."""

    file: Path
    seed: int
    natural_fraction: float
    norm: str
    eps: float
    attacks: Sequence[str]
    part: int

    def __str__(self) -> str:
        return f"{self.file.parent.name}/{self.file.stem} in {self.norm} eps {self.eps}, part {self.part}"


def attack_one(job: Job, on_progress, *, test_set: Path, settings: AutoAttackParams, device: str):  # noqa: ANN001, ANN201
    """Return which attack fooled the model first, for each image of the part."""
    from robacc import autoattack, data, hardware, models

    model = hardware.answering(models.load(job.file)[0], device)
    x, y = data.load(test_set).first(settings.n_images)
    part = slice(job.part, None, N_PARTS)
    fooled_by = autoattack.autoattack(
        model, x[part], y[part], job.norm, job.eps, attacks=job.attacks, seed=settings.seed
    )
    on_progress(len(job.attacks))
    return fooled_by


def plan(args: argparse.Namespace, folder: Path, dataset: Dataset, settings: AutoAttackParams) -> list[Job]:
    """Return the jobs: robust models in their own ball, standard ones in the balls that params.yaml names."""
    standard, jobs = [(norm, getattr(settings.standard_eps, norm)) for norm in ("l2", "linf")], []
    for norm, eps in [(args.norm, args.eps)] if args.norm else standard:
        for fraction in dataset.natural.at(args.norm, eps):
            for seed in range(dataset.n_seeds):
                file = folder / f"seed{seed}-natural{fraction}.safetensors"
                attacks = settings.on(args.norm, eps, fraction, seed)
                jobs += [Job(file, seed, fraction, norm, eps, attacks, part) for part in range(N_PARTS)]
    return jobs


def main(args: argparse.Namespace) -> None:
    """Write results/autoattack/<id>.csv: a row an image, with the first attack that fools each model."""
    from robacc import params, sweep
    from robacc.files import write_csv

    p = params.load()
    settings = p.autoattack[args.dataset]
    name = model_id(args.dataset, args.norm, args.eps)
    jobs = plan(args, Path("models") / name, p.datasets[args.dataset], settings)
    test_set = Path("data") / args.dataset / "test.safetensors"
    work = partial(attack_one, test_set=test_set, settings=settings, device=p.training.hardware)
    n_attacks = [len(job.attacks) for job in jobs]
    results = sweep.parallel(work, jobs, units=n_attacks, unit="attacks", n_workers=cli.n_workers())
    rows = []
    for job, fooled_by in zip(jobs, results, strict=True):
        model = {"seed": job.seed, "natural_fraction": job.natural_fraction, "norm": job.norm, "eps": job.eps}
        model |= {"attacks": " ".join(job.attacks)}
        rows += [{**model, "image": job.part + N_PARTS * i, "fooled_by": name} for i, name in enumerate(fooled_by)]
    write_csv(rows, Path("results/autoattack") / f"{name}.csv")


if __name__ == "__main__":
    cli.run(main, cli.parser(__doc__, "dataset", "norm", "eps"))
