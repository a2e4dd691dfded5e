"""Make large-eps adversarial examples and interpolations (Figures 3, 4, 8, 9), and judge them (claims C12, C13)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robacc.attack.adversary import smooth_margin
from robacc.attack.answers import margin
from robacc.attack.norms import Threat, threat_model
from robacc.attack.pgd import Loss, check_input, feasible, input_gradient, random_start
from robacc.nets.model import CHUNK, frozen, predict
from robacc.paper.saliency import loss_gradients
from robacc.params import Search
from robacc.seeding import generator

# The starts and losses of `highest_loss`. The log odds have the direction of the cross-entropy.
RUNS: tuple[tuple[str, Loss], ...] = (("image", smooth_margin), ("random", smooth_margin), ("random", margin))


def climb(
    model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, start: Tensor, loss: Loss, settings: Search
) -> tuple[Tensor, Tensor]:
    """Return the iterate of PGD from `start` with the highest log odds of an error, [B, ...], and these, [B].

    The walk goes on after the model is fooled. The step size falls linearly from `settings.step_size` times eps to 0.
    The ball shrinks linearly from `settings.first_ball` times eps to eps, which it reaches after half of the steps.
    From then on, iterates count. So does `start`, which has to be in the ball and in [0, 1].
    """
    n_steps, shrinking = settings.n_steps, settings.n_steps / 2
    best, x_adv = start.clone(), start
    highest = torch.full_like(y, -torch.inf, dtype=x.dtype)
    inside = True
    with frozen(model):
        for step in range(n_steps + 1):
            grad, logits = input_gradient(model, x_adv, y, loss)
            if inside:
                odds = smooth_margin(logits, y)
                better = odds > highest
                best[better], highest[better] = x_adv[better], odds[better]
            if step < n_steps:
                share = max(1.0, settings.first_ball + (1 - settings.first_ball) * step / shrinking)
                inside = share == 1.0
                length = settings.step_size * (1 - step / n_steps) * threat.eps
                ball = threat_model(threat.norm, share * threat.eps)
                x_adv = feasible(x_adv + ball.step(grad, length), x, ball)
    return best, highest


def highest_loss(
    model: nn.Module, x: Tensor, y: Tensor, threat: Threat, settings: Search, *, seed: int
) -> tuple[Tensor, Tensor]:
    """Return the images of highest cross-entropy found in the ball, [B, ...], and their log odds of an error, [B].

    These are the large-eps adversarial examples of the paper (Figures 3, 8, 9). Of the `RUNS` of `climb` it is the best
    one for each example. The random starts depend on `seed` alone, so they are the same for every model.
    """
    check_input(x)
    best, highest = x.clone(), torch.full_like(y, -torch.inf, dtype=x.dtype)
    for run, (kind, loss) in enumerate(RUNS):
        start = x if kind == "image" else random_start(x, threat, generator(seed, "large_eps", run))
        x_adv, odds = climb(model, x, y, threat, start=start, loss=loss, settings=settings)
        better = odds > highest
        best[better], highest[better] = x_adv[better], odds[better]
    return best, highest


def interpolation(x: Tensor, x_adv: Tensor, n_points: int) -> Tensor:
    """Return `n_points` images on the line from `x` to `x_adv`, [B, n_points, ...] (Figure 4).

    The first is `x` and the last `x_adv`, bit for bit.
    """
    shares = torch.linspace(0, 1, n_points).reshape(1, -1, *[1] * (x.ndim - 1))
    path = x[:, None] * (1 - shares) + x_adv[:, None] * shares
    path[:, 0], path[:, -1] = x, x_adv
    return path


def pictures(
    model: nn.Module, x: Tensor, y: Tensor, threats: list[Threat], settings: Search, *, n_points: int, seed: int
) -> dict[str, Tensor]:
    """Return what the figures show of `x` and `y` as named arrays.

    These are `x`, `y`, predictions and loss gradients. For each of `threats` there are also adversarial examples, their
    predictions and the interpolations. The names of those end in the norm.
    """
    arrays = {"x": x, "y": y, "predicted": predict(model, x), "gradient": loss_gradients(model, x, y)}
    for threat in threats:
        x_adv, _ = highest_loss(model, x, y, threat, settings, seed=seed)
        arrays[f"x_adv_{threat.norm}"] = x_adv
        arrays[f"predicted_{threat.norm}"] = predict(model, x_adv)
        arrays[f"path_{threat.norm}"] = interpolation(x, x_adv, n_points)
    return arrays


@dataclass(frozen=True)
class TrainingImages:
    """Training images `x` [N, ...], float in [0, 1], and their labels `y` [N], in which nearest ones are looked up."""

    x: Tensor
    y: Tensor

    def nearest(self, x: Tensor, *, unlike: Tensor | None = None) -> Tensor:
        """Return for each of `x` [B, ...] the index of the nearest training image in l2, [B].

        With `unlike` [B] it is the nearest one of a label other than that. `x` may be empty.
        """
        flat = self.x.flatten(1)
        lengths = flat.square().sum(1)
        found = []
        for index, chunk in enumerate(x.flatten(1).split(CHUNK)):
            distances = torch.addmm(lengths, chunk, flat.T, alpha=-2)  # squared, less the square of the chunk's length
            if unlike is not None:
                labels = unlike[index * CHUNK : index * CHUNK + len(chunk)]
                distances.masked_fill_(labels[:, None] == self.y, torch.inf)
            found.append(distances.argmin(1))
        return torch.cat(found)


def probabilities(model: nn.Module, x: Tensor) -> Tensor:
    """Return the class probabilities of `x` [B, ...]: [B, K]."""
    with frozen(model), torch.no_grad():
        return model(x).softmax(1)


def judged_as(judge: nn.Module, x_adv: Tensor, labels: Tensor) -> Tensor:
    """Return whether `judge`, an independently trained model, predicts `labels` for `x_adv`: bool [B]."""
    return probabilities(judge, x_adv).argmax(1) == labels


def judged_path(judge: nn.Module, path: Tensor, labels: Tensor) -> Tensor:
    """Return the judge's probability of `labels` [B] along interpolations [B, P, ...]: [B, P]."""
    of_all = probabilities(judge, path.flatten(0, 1)).unflatten(0, path.shape[:2])
    return of_all[torch.arange(len(labels)), :, labels]


def large_eps_numbers(
    model: nn.Module,
    judges: dict[str, nn.Module],
    training: TrainingImages,
    x: Tensor,
    x_adv: Tensor,
    y: Tensor,
    *,
    n_points: int,
) -> dict[str, Tensor]:
    """Return what independent judges say about large-eps examples (claims C12, C13).

    "changed" [B] says whether the attacked model predicts another class than `y` for `x_adv`. The other arrays contain
    only these C examples, for each judge. "judged_<name>" [C] says whether the judge predicts the attacked model's new
    class. "path_<name>" [C, n_points] is the judge's probability of that class from `x` to `x_adv`. "judged_nearest"
    [C] says whether the nearest of the training images has the new class. That judge is no net.
    """
    new = probabilities(model, x_adv).argmax(1)
    changed = new != y
    path = interpolation(x[changed], x_adv[changed], n_points)
    numbers = {"changed": changed}
    for name, judge in judges.items():
        numbers[f"judged_{name}"] = judged_as(judge, x_adv[changed], new[changed])
        numbers[f"path_{name}"] = judged_path(judge, path, new[changed])
    numbers["judged_nearest"] = training.y[training.nearest(x_adv[changed])] == new[changed]
    return numbers
