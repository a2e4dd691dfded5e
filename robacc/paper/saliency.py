"""Compute loss gradients, large-eps adversarial examples and interpolations (Figures 2 to 4)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robacc.attack.norms import Threat
from robacc.attack.pgd import check_input, cross_entropy, input_gradient, pgd
from robacc.nets.model import frozen, predict


def loss_gradients(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return the input gradient of each example's cross-entropy at its true label, [B, ...] (Figures 2, 10)."""
    check_input(x)
    with frozen(model):
        return input_gradient(model, x, y, cross_entropy)[0]


def large_eps_examples(
    model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, n_steps: int, step_size: float
) -> Tensor:
    """Return PGD's last iterate from the image itself at a large eps, [B, ...] (Figures 3, 8, 9).

    `step_size` is a share of eps. The start is the image, so the result does not depend on a random draw.
    """
    check_input(x)
    return pgd(model, x, y, threat, start=x, n_steps=n_steps, step_size=step_size * threat.eps)


def interpolation(x: Tensor, x_adv: Tensor, n_points: int) -> Tensor:
    """Return `n_points` images on the line from `x` to `x_adv`, [B, n_points, ...] (Figure 4).

    The first is `x` and the last `x_adv`, bit for bit.
    """
    shares = torch.linspace(0, 1, n_points).reshape(1, -1, *[1] * (x.ndim - 1))
    path = x[:, None] * (1 - shares) + x_adv[:, None] * shares
    path[:, 0], path[:, -1] = x, x_adv
    return path


def probabilities(model: nn.Module, x: Tensor) -> Tensor:
    """Return the class probabilities of `x` [B, ...]: [B, K]."""
    with frozen(model), torch.no_grad():
        return model(x).softmax(1)


def pictures(
    model: nn.Module, x: Tensor, y: Tensor, threats: list[Threat], *, n_steps: int, step_size: float, n_points: int
) -> dict[str, Tensor]:
    """Return what the figures show of `x` and `y` as named arrays.

    These are `x`, `y`, predictions and gradients. For each of `threats` there are also adversarial examples, their
    predictions and the interpolations. The names of those end in the norm.
    """
    arrays = {"x": x, "y": y, "predicted": predict(model, x), "gradient": loss_gradients(model, x, y)}
    for threat in threats:
        x_adv = large_eps_examples(model, x, y, threat, n_steps=n_steps, step_size=step_size)
        arrays[f"x_adv_{threat.norm}"] = x_adv
        arrays[f"predicted_{threat.norm}"] = predict(model, x_adv)
        arrays[f"path_{threat.norm}"] = interpolation(x, x_adv, n_points)
    return arrays


def edge_strength(x: Tensor) -> Tensor:
    """Return the length of the Sobel gradient of images [B, C, H, W], as [B, 1, H, W].

    A colour image is first averaged over its channels.
    """
    smooth, slope = torch.tensor([1.0, 2.0, 1.0]), torch.tensor([-1.0, 0.0, 1.0])
    kernels = torch.stack([smooth[:, None] * slope, slope[:, None] * smooth])[:, None]  # [2, 1, 3, 3]
    return F.conv2d(F.pad(x.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate"), kernels).norm(dim=1, keepdim=True)


def edge_alignment(gradient: Tensor, x: Tensor) -> Tensor:
    """Return the cosine between |gradient| and the image's edge strength, [B], in [0, 1].

    For colour images |gradient| is the length over the channels. It is computed in float64, because squares of small
    gradients are 0 in float32.
    """
    length = gradient.double().norm(dim=1).to(gradient.dtype)
    return F.cosine_similarity(length.flatten(1), edge_strength(x).flatten(1), dim=1)


def object_share(gradient: Tensor, x: Tensor) -> Tensor:
    """Return the share of the gradient's energy on the object, [B].

    The object is all pixels that are not black.
    """
    energy = gradient.square()
    return (energy * (x > 0)).flatten(1).sum(1) / energy.flatten(1).sum(1).clamp_min(torch.finfo(x.dtype).tiny)


def low_frequency_share(gradient: Tensor) -> Tensor:
    """Return the share of the gradient's energy below a quarter of the highest frequency, [B].

    White noise of n pixels has about pi / 64 of its energy there.
    """
    energy = torch.fft.fft2(gradient).abs().square().sum(1)  # [B, H, W]
    rows, columns = torch.fft.fftfreq(energy.shape[1]), torch.fft.fftfreq(energy.shape[2])
    low = (rows[:, None].square() + columns.square()).sqrt() < 0.5 / 4
    total = energy.flatten(1).sum(1).clamp_min(torch.finfo(gradient.dtype).tiny)
    return (energy * low).flatten(1).sum(1) / total


def judged_as(judge: nn.Module, x_adv: Tensor, labels: Tensor) -> Tensor:
    """Return whether `judge`, an independently trained model, predicts `labels` for `x_adv`: bool [B]."""
    return probabilities(judge, x_adv).argmax(1) == labels


def judged_path(judge: nn.Module, path: Tensor, labels: Tensor) -> Tensor:
    """Return the judge's probability of `labels` [B] along interpolations [B, P, ...]: [B, P]."""
    flat = probabilities(judge, path.flatten(0, 1))
    return flat.reshape(*path.shape[:2], -1)[torch.arange(len(labels)), :, labels]


def gradient_numbers(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Return numbers in [0, 1] on how a model's loss gradients relate to the images, each [B] (claim C11).

    `object_share` is for grey images (MNIST) only. In colour images the object is not the pixels that are not black.
    """
    gradient = loss_gradients(model, x, y)
    on_object = {"object_share": object_share(gradient, x)} if x.shape[1] == 1 else {}
    return {
        "edge_alignment": edge_alignment(gradient, x),
        **on_object,
        "low_frequency_share": low_frequency_share(gradient),
    }


def large_eps_numbers(
    model: nn.Module, judges: dict[str, nn.Module], x: Tensor, x_adv: Tensor, y: Tensor, *, n_points: int
) -> dict[str, Tensor]:
    """Return the predictions of independent judges on large-eps examples (claims C12, C13).

    "changed" [B] says whether the attacked model predicts another class than `y` for `x_adv`. The other arrays contain
    only these C examples, for each judge. "judged_<name>" [C] says whether the judge predicts the attacked model's new
    class. "path_<name>" [C, n_points] is the judge's probability of that class from `x` to `x_adv`.
    """
    new = probabilities(model, x_adv).argmax(1)
    changed = new != y
    path = interpolation(x[changed], x_adv[changed], n_points)
    numbers = {"changed": changed}
    for name, judge in judges.items():
        numbers[f"judged_{name}"] = judged_as(judge, x_adv[changed], new[changed])
        numbers[f"path_{name}"] = judged_path(judge, path, new[changed])
    return numbers


def summaries(numbers: dict[str, Tensor], **labels: str | int) -> list[dict]:
    """Return a row for each number: mean, standard error over images, and n.

    A path has a row for each point. `labels` are columns of every row.
    """
    rows = []
    for name, values in numbers.items():
        columns = values.double()[:, None].flatten(1)
        for point in range(columns.shape[1] if len(values) else 0):
            column = columns[:, point]
            error = column.std().item() / len(column) ** 0.5 if len(column) > 1 else 1.0
            position = point / (columns.shape[1] - 1) if columns.shape[1] > 1 else 0.0
            row = {
                **labels,
                "quantity": name,
                "position": position,
                "mean": column.mean().item(),
                "standard_error": error,
            }
            rows.append({**row, "n": len(column)})
    return rows
