"""Run AutoAttack (Croce & Hein 2020), the field's reference, as a second opinion on PGD.

The attacks are those of the authors' package.
"""

import logging
from collections.abc import Sequence

import torch
from pyautoattack import AutoAttack
from torch import Tensor, nn

from robacc.attack.answers import answers
from robacc.attack.norms import threat_model
from robacc.nets.model import frozen

# The standard set, in its order: untargeted APGD, targeted APGD, targeted FAB (minimum norm), Square (black box).
ATTACKS = ("apgd-ce", "apgd-t", "fab-t", "square")
SUCCESS_TOLERANCE = 1e-4  # relative to eps, because the package's float32 projections overshoot slightly


def n_targets(n_classes: int) -> int:
    """Return the number of target classes of the targeted attacks: nine, or all others if there are fewer.

    Raises ValueError for fewer than four classes, because the targeted loss divides by the gap to the fourth logit.
    """
    if n_classes < 4:
        raise ValueError(f"expected at least 4 classes, got {n_classes}; use an exact adversary for two or three")
    return min(9, n_classes - 1)


def _attack(
    model: nn.Module, name: str, norm: str, eps: float, targets: int, seed: int, device: torch.device
) -> AutoAttack:
    settings = {"attacks": [name], "version": "custom", "norm": norm.capitalize(), "eps": eps, "seed": seed}
    attack = AutoAttack(model, **settings, device=device)  # the package's own default is the CPU
    attack.apgd.n_restarts = attack.fab.n_restarts = 1
    attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = targets
    return attack


def autoattack(
    model: nn.Module, x: Tensor, y: Tensor, norm: str, eps: float, *, attacks: Sequence[str] = ATTACKS, seed: int
) -> list[str]:
    """Return for each example the name of the first of `attacks` that fooled the model.

    The name is "misclassified" where the model misclassifies the image itself, and "none" where no attack succeeds. An
    attack skips the examples that an earlier attack fooled. `x` is float [N, C, H, W] in [0, 1], `y` is [N].

    A success counts only if the adversarial example is in the ball and in [0, 1]. A second forward pass must also
    misclassify it. A tie at the top counts as an error, of images and of adversarial examples. PyTorch's global
    generators keep their state. Raises the errors of `answers`, `n_targets` and `threat_model`.
    """
    threat = threat_model(norm, eps)
    logging.getLogger("auto-attack").setLevel(logging.WARNING)
    fooled_by = ["none" if right else "misclassified" for right in answers(model, x, y)[1] < 0]
    with frozen(model), torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
        targets = n_targets(model(x[:1]).shape[1])
        for name in attacks:
            rest = [i for i, who in enumerate(fooled_by) if who == "none"]
            remaining = torch.tensor(rest, dtype=torch.long, device=x.device)
            if not len(remaining):
                break
            attack = _attack(model, name, norm, eps, targets, seed, x.device)
            x_adv, _ = attack.run_standard_evaluation(x[remaining], y[remaining], batch_size=len(remaining))
            success = threat.size(x_adv.double() - x[remaining].double()) <= eps * (1 + SUCCESS_TOLERANCE)
            success &= ((x_adv >= 0) & (x_adv <= 1)).flatten(1).all(1)
            x_adv[~success] = x[remaining][~success]  # which the model has right
            success &= answers(model, x_adv, y[remaining])[1] >= 0
            for i in remaining[success].tolist():
                fooled_by[i] = name
    return fooled_by
