"""AutoAttack (Croce & Hein 2020), the field's reference, run by its authors' package as a second opinion on PGD."""

import logging
from collections.abc import Sequence

import torch
from pyautoattack import AutoAttack
from torch import Tensor, nn

from robacc.models import frozen, predict
from robacc.norms import ball

# The standard set, in its order: parameter-free PGD untargeted and targeted, minimum-norm targeted, black box.
ATTACKS = ("apgd-ce", "apgd-t", "fab-t", "square")
NORMS = {"linf": "Linf", "l2": "L2"}
SUCCESS_TOLERANCE = 1e-4  # relative to eps: their float32 projections overshoot a little


def n_targets(n_classes: int) -> int:
    """Return how many classes the targeted attacks aim at: nine, or all others where there are fewer.

    Raises ValueError under four classes: their targeted loss divides by the gap to the fourth logit.
    """
    if n_classes < 4:
        raise ValueError(f"expected at least 4 classes, got {n_classes}; use an exact adversary for two or three")
    return min(9, n_classes - 1)


def _attack(model: nn.Module, name: str, norm: str, eps: float, targets: int, seed: int) -> AutoAttack:
    attack = AutoAttack(model, attacks=[name], version="custom", norm=NORMS[norm], eps=eps, seed=seed)
    attack.apgd.n_restarts = attack.fab.n_restarts = 1
    attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = targets
    return attack


def autoattack(
    model: nn.Module, x: Tensor, y: Tensor, norm: str, eps: float, *, attacks: Sequence[str] = ATTACKS, seed: int
) -> list[str]:
    """Return for each example the first of `attacks` that fooled the model.

    "misclassified" where the image itself is, "none" where no attack succeeds; what one attack fools, the
    next ones do not see. `x` float [N, C, H, W] in [0, 1], `y` [N]. A success counts only if it lies in the
    ball and the box and the model, asked again, is wrong on it. The global generator is left alone.
    """
    threat = ball(norm, eps)
    logging.getLogger("auto-attack").setLevel(logging.WARNING)
    fooled_by = ["none" if right else "misclassified" for right in predict(model, x) == y]
    with frozen(model), torch.random.fork_rng(devices=[]):
        targets = n_targets(model(x[:1]).shape[1])
        for name in attacks:
            left = torch.tensor([i for i, who in enumerate(fooled_by) if who == "none"], dtype=torch.long)
            if not len(left):
                break
            attack = _attack(model, name, norm, eps, targets, seed)
            x_adv, _ = attack.run_standard_evaluation(x[left], y[left], batch_size=len(left))
            success = threat.size(x_adv.double() - x[left].double()) <= eps * (1 + SUCCESS_TOLERANCE)
            success &= ((x_adv >= 0) & (x_adv <= 1)).flatten(1).all(1) & (predict(model, x_adv) != y[left])
            for i in left[success].tolist():
                fooled_by[i] = name
    return fooled_by
