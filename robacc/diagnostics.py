"""What can make robust accuracy look higher than it is: a model that attacks cannot use, a broken attack, masking.

Every check measures something, raises an error if it is beyond its limit, and the message says what to do.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from robacc.adversary import LOSSES, Attack, attack
from robacc.attacks import check_input, input_gradient
from robacc.models import frozen, predict
from robacc.norms import ball

# Float rounding of x + delta, measured in float64: absolute in linf, relative to eps in l2.
LINF_TOLERANCE, L2_TOLERANCE = 1e-6, 1e-5
# How much a stronger or an unrelated attack may find beyond the attack under test, in shares of the examples checked.
SLACK = 0.1


def _require(condition: Tensor | bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def check_model(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """Raise TypeError or ValueError unless `model` maps `x` [N, ...] in [0, 1] to logits that an attack can use.

    | raised if | what it means |
    |---|---|
    | a module is in training mode | dropout and batch statistics make every answer depend on chance or on the batch |
    | the answer is not [N, K] with every label of `y` in 0..K-1 | labels and model do not belong together |
    | rows lie in [0, 1] and sum to 1 | probabilities: their gradient vanishes where the model is sure of itself |
    | two calls differ | a randomised model: an attack must average over its draws (expectation over transformation) |
    """
    check_input(x)
    if len(x) != len(y) or not len(x):
        raise ValueError(f"expected as many labels as images and at least one, got {len(x)} images, {len(y)} labels")
    if any(module.training for module in model.modules()):
        raise ValueError("expected a model in evaluation mode, got one in training mode; call model.eval() first")
    with torch.no_grad():
        logits, again = model(x), model(x)
    if logits.ndim != 2 or len(logits) != len(x) or y.min() < 0 or y.max() >= logits.shape[1]:
        shape = tuple(logits.shape)
        raise ValueError(f"expected logits [{len(x)}, K] and labels under K, got {shape} and labels up to {y.max()}")
    if not torch.equal(logits, again):
        change = (logits - again).abs().max()
        raise ValueError(f"expected the same logits from two calls, got a difference of {change:.2g}: a random model")
    sums = logits.sum(1)
    if logits.min() >= 0 and logits.max() <= 1 and torch.allclose(sums, torch.ones_like(sums), atol=1e-5):
        raise ValueError("expected logits, got probabilities; return what goes into the softmax instead")


def check_attack(
    model: nn.Module, x: Tensor, y: Tensor, norm: str, eps_grid: list[float], settings: Attack, *, seed: int
) -> tuple[dict[str, float], list[Tensor]]:
    """Attack `x` at eps 0 and at each of `eps_grid`, which rises, each from nothing.

    Returns what was measured, and for each of `eps_grid` which examples were fooled [N]. One step at eps 0.

    | AssertionError if | what it means |
    |---|---|
    | an adversarial example leaves ball or box, or is not finite | the attack cheats, or has failed without saying so |
    | eps = 0 changes an image | the images attacked are not the images given |
    | the reported success is not what the model says | successes are miscounted |
    | robust accuracy rises with eps | the attack is too weak at the larger eps |
    """
    outcomes = []
    largest_excess = -torch.inf
    for eps in [0.0, *eps_grid]:
        threat = ball(norm, eps)
        strength = settings if eps else replace(settings, n_steps=1)
        x_adv, fooled = attack(model, x, y, threat, strength, seed=seed)
        where = f"at {norm} eps {eps}"
        _require(x_adv.isfinite().all(), f"adversarial examples {where} are not finite")
        _require(x_adv.min() >= 0 and x_adv.max() <= 1, f"adversarial examples {where} leave [0, 1]")
        excess = (threat.size(x_adv.double() - x.double()).max() - eps).item()
        tolerance = LINF_TOLERANCE if norm == "linf" else L2_TOLERANCE * eps
        _require(excess <= tolerance, f"adversarial examples {where} exceed the ball by {excess}")
        largest_excess = max(largest_excess, excess)
        _require(torch.equal(predict(model, x_adv) != y, fooled), f"success {where} is not what the model says")
        _require(eps > 0 or torch.equal(x_adv, x), "the attack with eps 0 changes the images")
        outcomes.append(fooled)
    accuracies = [(~fooled).double().mean().item() for fooled in outcomes]
    _require(accuracies == sorted(accuracies, reverse=True), f"robust accuracy rises with eps: {accuracies}")
    measured = {"n": len(x), "largest_excess": largest_excess, "std_acc": accuracies[0], "rob_acc": accuracies[-1]}
    return measured, outcomes[1:]


class Scaled(nn.Module):
    """A model with its logits times `factor`: the same decisions, and a cross-entropy that underflows."""

    def __init__(self, model: nn.Module, factor: float) -> None:
        super().__init__()
        self.model, self.factor = model, factor

    def forward(self, x: Tensor) -> Tensor:
        """Return factor * model(x)."""
        return self.factor * self.model(x)


def zero_gradients(model: nn.Module, x: Tensor, y: Tensor, losses: list[str]) -> float:
    """Return the share of examples at which the gradient of every loss is exactly zero: no step leads anywhere."""
    stuck = torch.ones(len(x), dtype=torch.bool, device=x.device)
    with frozen(model):
        for loss in losses:
            gradient, _ = input_gradient(model, x, y, LOSSES[loss])
            stuck &= (gradient == 0).flatten(1).all(1)
    return stuck.double().mean().item()


def check_masking(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    norm: str,
    eps: float,
    settings: Attack,
    *,
    fooled: Tensor,
    seed: int,
    other: nn.Module | None = None,
) -> dict[str, float]:
    """Look for gradient masking (Athalye et al. 2018) on `x` at one eps; return what was measured, as shares.

    `fooled` [N]: what the attack under test did there; stronger ones only meet the examples that it left.
    `other`: a model trained in the same way on another seed, from which attacks are transferred.

    | AssertionError if | what it means |
    |---|---|
    | `zero_gradients` is over 10 % | no step leads anywhere: the accuracy says nothing |
    | `more_steps` (three times the steps) is 10 points under `rob_acc` | the attack stops too early |
    | `more_restarts` (one more of each loss) is 10 points under `rob_acc` | success depends on luck |
    | `scaled` (logits times 1000) is 10 points over `rob_acc` | the loss underflows where a model is sure of itself |
    | `transfer` is under `rob_acc` | another model's examples fool it more than its own gradient: it is masked |
    | `huge_eps` (the whole box) is over chance | the attack fails even where every image is allowed |
    """

    def n_robust(victim: nn.Module, x: Tensor, y: Tensor, radius: float, strength: Attack, seed: int = seed) -> int:
        return int((~attack(victim, x, y, ball(norm, radius), strength, seed=seed)[1]).sum())

    left = (x[~fooled], y[~fooled], eps)
    longer = replace(settings, n_steps=3 * settings.n_steps)
    oftener = replace(settings, give_up_below=None)
    whole_box = 1.0 if norm == "linf" else math.sqrt(x[0].numel())
    measured = {
        "eps": eps,
        "zero_gradients": zero_gradients(model, x, y, settings.losses),
        "rob_acc": len(left[0]) / len(x),
        "more_steps": n_robust(model, *left, longer, seed + 1) / len(x),
        "more_restarts": n_robust(model, *left, oftener, seed + 1) / len(x),
        "scaled": n_robust(Scaled(model, 1000.0).eval(), x, y, eps, settings) / len(x),
        "huge_eps": n_robust(model, x, y, whole_box, settings) / len(x),
    }
    if other is not None:
        x_adv, _ = attack(other, x, y, ball(norm, eps), settings, seed=seed)
        measured["transfer"] = (predict(model, x_adv) == y).double().mean().item()
    _require_unmasked(measured, n_classes=model(x[:1]).shape[1])
    return measured


def _require_unmasked(measured: dict[str, float], *, n_classes: int) -> None:
    own = measured["rob_acc"]
    where = f"robust accuracy {own:.3f} at eps {measured['eps']:g} is not to be trusted: "
    limits = [
        (measured["zero_gradients"] <= SLACK, "{zero_gradients:.0%} of the gradients are exactly zero"),
        (measured["more_steps"] >= own - SLACK, "{more_steps:.3f} with more steps; raise n_steps"),
        (measured["more_restarts"] >= own - SLACK, "{more_restarts:.3f} with more restarts; add losses"),
        (measured["scaled"] <= own + SLACK, "{scaled:.3f} with scaled logits; add the margin loss"),
        (measured.get("transfer", 1.0) >= own, "{transfer:.3f} by transfer from another model; it masks its gradient"),
        (measured["huge_eps"] <= 1 / n_classes, "{huge_eps:.3f} where every image is allowed, above chance"),
    ]
    for holds, message in limits:
        if not holds:
            raise AssertionError(where + message.format(**measured))
