"""Describe training jobs, without importing PyTorch."""

from dataclasses import dataclass

from robacc.balls import Ball


def model_name(seed: int, natural_fraction: float) -> str:
    """Return the name of a full-set model in files, such as seed0-natural0.5."""
    return f"seed{seed}-natural{natural_fraction}"


@dataclass(frozen=True)
class Job:
    """The specification of one training job.

    `natural_fraction` is the share of unperturbed examples in every batch. The paper's Appendix B has 0.5.
    """

    ball: Ball
    n_train: int
    seed: int
    natural_fraction: float = 0.0

    @property
    def name(self) -> str:
        """The name of the model file, for a model on the full set."""
        return model_name(self.seed, self.natural_fraction)

    def columns(self) -> dict:
        """Return the job as columns of a learning curve, and as metadata of a model file."""
        rest = {"n_train": self.n_train, "seed": self.seed, "natural_fraction": self.natural_fraction}
        return {"norm": self.ball.norm, "eps": self.ball.eps, **rest}

    def __str__(self) -> str:
        mixed = f", natural {self.natural_fraction}" if self.natural_fraction else ""
        return f"{self.ball}, {self.n_train} images, seed {self.seed}{mixed}"
