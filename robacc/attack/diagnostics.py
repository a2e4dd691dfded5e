"""Detect what makes robust accuracy look too high: an unusable model, a broken attack, gradient masking.

Each check measures something, and raises an error beyond a limit. The message says what to do.
"""

import torch
from torch import Tensor, nn

from robacc.attack.adversary import attack, smooth_margin
from robacc.attack.answers import answers, guarded
from robacc.attack.gradients import Smoothed, promises
from robacc.attack.inputs import check_images, whole_labels
from robacc.attack.norms import Threat, threat_model, whole_box
from robacc.attack.pgd import input_gradient
from robacc.attack.square import square, stripes
from robacc.nets.model import frozen
from robacc.params import Attack
from robacc.seeding import generator

# How many more examples a stronger or unrelated attack may fool than the attack under test, as a share.
SLACK = 0.1
# How far logits may differ in another batch, relative to the largest. Rounding on a GPU in tf32 stays below.
BATCH_TOLERANCE = 0.01
ONE_CLASS = 0.9  # share of the images of other classes that get the answer which a model gives most often
N_OTHERS = 10  # of fewer images of other classes no such share is told
N_POINTS = 4  # near an image, for a mean gradient
N_QUERIES = 200  # of the search without gradients
SEARCH_SLACK = 0.02  # share that it may fool of what is left, one image at least; on honest nets it was 0.001 at most


def _require(condition: Tensor | bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def check_model(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """Raise an error unless an attack can use `model` on `x` [N, ...] in [0, 1], with labels `y` [N].

    The error is ValueError, TypeError for a wrong type, or FloatingPointError for NaN logits.

    | raised if | reason |
    |---|---|
    | it is no module, or fails on `x` | nothing can be measured |
    | images or labels are not those of `check_images` and `whole_labels` | their pixels or labels mean something else |
    | a module is in training mode | dropout and batch statistics make the logits depend on chance or on the batch |
    | batch normalisation has no running statistics | the same, in evaluation mode too |
    | the output is not one tensor [N, K] of the type of `x` | it is not the logits, or needs a choice of the user |
    | a label of `y` is not in 0..K-1 | labels and model do not belong together |
    | a logit is NaN | it would count as robust |
    | two calls differ | the model is random, and an attack must average over it (expectation over transformation) |
    | half of the batch alone has other logits | an attack leaves out examples that are fooled |
    | the rows are in [0, 1] and sum to 1 | probabilities have a vanishing gradient for confident predictions |
    """
    check_images(x)
    if not len(x):
        raise ValueError(f"expected at least one image, got {len(x)} images, {len(y)} labels")
    y = whole_labels(y, len(x))
    if not isinstance(model, nn.Module):
        raise TypeError(f"expected a model that is a torch.nn.Module, got {type(model).__name__}; wrap it in one")
    _check_modules(model)
    model = guarded(model)
    try:
        answers(model, x, y)
    except RuntimeError as error:
        types = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
        if not types or x.dtype in types:
            said = " ".join(str(error).split())[:300]
            raise ValueError(f"expected a model that takes x {list(x.shape)}, got its error: {said}") from error
        raise TypeError(f"expected x of the model's type, {types.pop()}, got {x.dtype}; convert one of them") from error
    with torch.no_grad():
        logits, again, half = model(x), model(x), model(x[: (len(x) + 1) // 2])
    if not torch.equal(logits, again):
        change = (logits - again).abs().max()
        raise ValueError(f"expected the same logits from two calls, got a difference of {change:.2g}: a random model")
    change = (logits[: len(half)] - half).abs().nan_to_num(0).max()  # of two infinite logits
    if change > BATCH_TOLERANCE * logits.nan_to_num(0, 0, 0).abs().max():
        raise ValueError(
            f"expected logits that depend on their own image alone, got a difference of {change:.2g} in another batch; "
            "replace what is computed over the batch"
        )
    sums = logits.sum(1)
    if logits.min() >= 0 and logits.max() <= 1 and torch.allclose(sums, torch.ones_like(sums), atol=1e-5):
        raise ValueError("expected logits, got probabilities; return what goes into the softmax instead")


def _check_modules(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if module.training:
            raise ValueError("expected a model in evaluation mode, got one in training mode; call model.eval() first")
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise ValueError(
                f"expected running statistics in every batch normalisation, got none in {name or 'the model'}, which "
                "uses those of the batch in evaluation mode too; train with track_running_stats=True"
            )


def check_attack(
    model: nn.Module, x: Tensor, y: Tensor, norm: str, eps_grid: list[float], settings: Attack, *, seed: int
) -> tuple[dict[str, float], list[Tensor]]:
    """Attack `x` at eps 0 and at each eps of `eps_grid`, and check the results.

    `eps_grid` must ascend. No attack starts from the result of another eps. The attack at eps 0 has one step. Returns
    the measures, and for each of `eps_grid` which examples were fooled, bool [N]. Raises the errors of `attack` too.

    | AssertionError if | reason |
    |---|---|
    | an adversarial example is outside ball or [0, 1], or not finite | the attack cheats, or has failed silently |
    | eps = 0 changes an image | the attacked images are not the given images |
    | the reported success differs from the model's predictions | successes are miscounted |
    | robust accuracy rises with eps | the attack is too weak at the larger eps |
    """
    model, y, outcomes = guarded(model), whole_labels(y, len(x)), []
    largest_excess = -torch.inf
    for eps in [0.0, *eps_grid]:
        threat = threat_model(norm, eps)
        strength = settings if eps else settings.model_copy(update={"quick_steps": 1, "restarts": []})
        x_adv, fooled = attack(model, x, y, threat, strength, seed=seed)
        where = f"at {norm} eps {eps}"
        _require(x_adv.isfinite().all(), f"adversarial examples {where} are not finite")
        _require(x_adv.min() >= 0 and x_adv.max() <= 1, f"adversarial examples {where} leave [0, 1]")
        excess = (threat.size(x_adv.double() - x.double()).max() - eps).item()
        _require(excess <= threat.tolerance, f"adversarial examples {where} exceed the ball by {excess}")
        largest_excess = max(largest_excess, excess)
        _require(torch.equal(answers(model, x_adv, y)[1] >= 0, fooled), f"success {where} is not what the model says")
        _require(eps > 0 or torch.equal(x_adv, x), "the attack with eps 0 changes the images")
        outcomes.append(fooled)
    accuracies = [(~fooled).double().mean().item() for fooled in outcomes]
    _require(accuracies == sorted(accuracies, reverse=True), f"robust accuracy rises with eps: {accuracies}")
    measured = {"n": len(x), "largest_excess": largest_excess, "std_acc": accuracies[0], "rob_acc": accuracies[-1]}
    return measured, outcomes[1:]


def zero_gradients(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Return the share of examples at which the gradient of the attack's loss is exactly zero.

    PGD cannot move such an example.
    """
    model, y = guarded(model), whole_labels(y, len(x))
    with frozen(model):
        gradient, _ = input_gradient(model, x, y, smooth_margin)
    return (gradient == 0).flatten(1).all(1).double().mean().item()


def one_class(y: Tensor, predicted: Tensor) -> tuple[float, str]:
    """Return the share of the answer that `predicted` [N] has most often, and words if a model gives nearly only that.

    The words are empty unless 90 % of the images of other classes get that answer, of 10 images at least. So a right
    answer for images of one class is none of this. The robust accuracy of such a model is that of a constant: there is
    nothing to mask.
    """
    counts = predicted.bincount()
    top = int(counts.argmax())
    share, others = counts[top].item() / len(y), predicted[y != top]
    collapsed = len(others) >= N_OTHERS and (others == top).double().mean() >= ONE_CLASS
    return share, f"answers class {top} for {share:.0%} of the images" if collapsed else ""


def check_gradient(model: nn.Module, x: Tensor, y: Tensor, norm: str, eps: float, *, seed: int) -> dict[str, float]:
    """Check what the gradient at `x` is worth for an attack at one eps; return the measures as shares.

    | AssertionError if | reason |
    |---|---|
    | `zero_gradients` is over 10 % | no step moves these examples, so their accuracy says nothing |
    | `gradient_noise` is over 10 % | the gradient is random: two at the same image differ |
    | `promise` (`kept_promise` of eps / 10) is under 10 % | the gradient is shattered, or not that of the model |

    The gradient is called shattered if `near_promise`, that of a step of eps / 10,000, is 50 % or more.
    """
    model, threat, y = guarded(model), threat_model(norm, eps), whole_labels(y, len(x))
    found = promises(model, x, y, threat, generator(seed, "promises"))
    measured = {"eps": eps, "zero_gradients": zero_gradients(model, x, y), **found}
    kept, near = measured["promise"] >= SLACK, measured["near_promise"] >= 0.5
    promise = "a step of eps / 10 brings {promise:.0%} of the change that the gradient promises, "
    limits = [
        (measured["zero_gradients"] <= SLACK, "{zero_gradients:.0%} of the gradients are exactly zero"),
        (
            measured["gradient_noise"] <= SLACK,
            "two gradients at the same image differ by {gradient_noise:.0%}: a random gradient; average it over calls",
        ),
        (
            kept or not near,
            promise + "one of eps / 10,000 {near_promise:.0%}: a shattered gradient; attack without what oscillates",
        ),
        (
            kept or near,
            promise + "one of eps / 10,000 {near_promise:.0%}: not the model's gradient; repair its backward pass",
        ),
    ]
    _require_all(limits, f"robust accuracy at eps {eps:g} is not to be trusted: ", measured)
    return measured


def _require_all(limits: list[tuple[bool, str]], where: str, measured: dict[str, float]) -> None:
    for holds, message in limits:
        if not holds:
            raise AssertionError(where + message.format(**measured))


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
    """Check for gradient masking (Athalye et al. 2018) on `x` at one eps; return the measures as shares.

    `fooled` [N] says which examples the attack under test fooled. `more_steps` and `more_restarts` attack only the
    others. `other` is a model trained in the same way with another seed; its adversarial examples are transferred.

    | AssertionError if | reason |
    |---|---|
    | an error of `check_gradient` | the gradient leads no attack |
    | `more_steps` (three times the steps, the same start) is 10 points under `rob_acc` | the attack stops too early |
    | `more_restarts` (two of every example) is 10 points under `rob_acc` | success depends on luck |
    | `transfer` is under `rob_acc` | another model's gradient fools it more often than its own, which is masked |
    | `huge_eps` (the whole box [0, 1]) is over chance | the attack fails even where every image is allowed |
    | `smoothed` (a mean gradient of 4 points) is 10 points under all of these | the gradient is noisy |
    | `square` (200 queries of Square Attack) is 2 points under all of these | a search without gradient does better |

    `smoothed` and `square` attack what is left too. Rounding with a straight-through gradient passes if that gradient
    predicts what a step does, and no search does better.
    """
    model, threat, y = guarded(model), threat_model(norm, eps), whole_labels(y, len(x))
    measured = {
        **check_gradient(model, x, y, norm, eps, seed=seed),
        "rob_acc": (~fooled).double().mean().item(),
        **_stronger(model, x[~fooled], y[~fooled], threat, settings, n=len(x), seed=seed),
        "huge_eps": _n_robust(model, x, y, whole_box(norm, x), settings, seed) / len(x),
    }
    if other is not None:
        x_adv, _ = attack(other, x, y, threat, settings, seed=seed)
        measured["transfer"] = (answers(model, x_adv, y)[1] < 0).double().mean().item()
    _require_unmasked(measured, n=len(x), n_classes=model(x[:1]).shape[1])
    return measured


def _n_robust(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, settings: Attack, seed: int) -> int:
    return int((~attack(model, x, y, threat, settings, seed=seed)[1]).sum())


def _stronger(
    model: nn.Module, x: Tensor, y: Tensor, threat: Threat, settings: Attack, *, n: int, seed: int
) -> dict[str, float]:
    """Return the share of `n` images that each attack on those left, `x`, leaves again."""
    draws, near = generator(seed, "masking"), threat_model(threat.norm, threat.eps / 4)
    smooth = Smoothed(model, near, n_points=N_POINTS, generator=draws).eval()
    victims: dict[str, tuple[nn.Module, dict[str, object], int]] = {
        "more_steps": (model, {"quick_steps": 3 * settings.n_steps, "restarts": []}, seed),
        "more_restarts": (model, {"restarts": [0.0, 0.0]}, seed + 1),
        "smoothed": (smooth, {"restarts": []}, seed + 1),
    }
    left = {}
    for name, (victim, change, seed_of_starts) in victims.items():
        by = settings.model_copy(update={**change, "n_queries": dict.fromkeys(settings.n_queries, 0)})
        left[name] = _n_robust(victim, x, y, threat, by, seed_of_starts)
    start = stripes(x, threat, draws)
    _, margins = square(model, x, y, threat, start=start, n_queries=N_QUERIES, generator=draws)
    left["square"] = int((margins < 0).sum())
    return {name: count / n for name, count in left.items()}


def _require_unmasked(measured: dict[str, float], *, n: int, n_classes: int) -> None:
    own = measured["rob_acc"]
    where = f"robust accuracy {own:.3f} at eps {measured['eps']:g} is not to be trusted: "
    best = min(own, measured["more_steps"], measured["more_restarts"])
    slack, searched = SLACK + 1e-9, max(SEARCH_SLACK, 1 / n) + 1e-9  # shares such as 0.4 are rounded
    limits = [
        (measured["smoothed"] >= best - slack, "{smoothed:.3f} with a mean gradient of points nearby; it is noisy"),
        (measured["more_steps"] >= own - slack, "{more_steps:.3f} with more steps; raise n_steps"),
        (measured["more_restarts"] >= own - slack, "{more_restarts:.3f} with more restarts; add restarts of share 0"),
        (measured.get("transfer", 1.0) >= own, "{transfer:.3f} by transfer from another model; it masks its gradient"),
        (
            measured["square"] >= min(best, measured["smoothed"]) - searched,
            "{square:.3f} by a search without gradients; it masks its gradient",
        ),
        (measured["huge_eps"] <= 1 / n_classes, "{huge_eps:.3f} where every image is allowed, above chance"),
    ]
    _require_all(limits, where, measured)
