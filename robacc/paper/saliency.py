"""Compute loss gradients (Figures 2, 10), and measure how they relate to images (claim C11).

A gradient of a model's scores has the shape of the images, [B, C, H, W]. Every measure is a number for each example,
[B]. Sums of squares are in float64, because squares of small gradients are 0 in float32. A gradient that is exactly
zero has the measure 0.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robacc.attack.adversary import smooth_margin
from robacc.attack.pgd import check_input, input_gradient
from robacc.nets.model import frozen

EDGE = 0.25  # an edge pixel has at least this share of the image's largest edge strength
VARIANCE = 0.9  # the share of the variance of training images that `principal_components` have
N_PRINCIPAL = 2000  # training images of which these are computed
DUAL = {"l2": 2.0, "linf": 1.0}  # q of the dual norm, 1/p + 1/q = 1


def loss_gradients(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return the input gradient of each example's cross-entropy at its true label, [B, ...] (Figures 2, 10).

    It is the probability of an error times the gradient of the smooth margin, the log odds of an error. Taken directly,
    float32 loses the true label's part where p(y) rounds to 1.
    """
    check_input(x)
    with frozen(model):
        gradient, logits = input_gradient(model, x, y, smooth_margin)
    return gradient * smooth_margin(logits, y).sigmoid().reshape(-1, *[1] * (x.ndim - 1))


def decision_gradients(model: nn.Module, x: Tensor) -> Tensor:
    """Return the input gradient of the largest logit minus the second largest, [B, ...]."""

    def lead(logits: Tensor, _: Tensor) -> Tensor:
        largest = logits.topk(2, dim=1).values
        return largest[:, 0] - largest[:, 1]

    with frozen(model):
        return input_gradient(model, x, x, lead)[0]


def logit_gradients(model: nn.Module, x: Tensor, labels: Tensor) -> Tensor:
    """Return the input gradient of the logit of each example's label in `labels`, [B, ...]."""
    with frozen(model):
        return input_gradient(model, x, labels, lambda logits, y: logits.gather(1, y[:, None])[:, 0])[0]


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    return part / whole.where(whole > 0, 1.0)


def _length(gradient: Tensor) -> Tensor:
    return gradient.double().norm(dim=1)  # over the channels: [B, H, W]


def alignment(gradient: Tensor, x: Tensor, norm: str) -> Tensor:
    """Return |<x, g>| / ||g||_q, [B], with q dual to `norm`: ||g||_2 for l2 and ||g||_1 for linf.

    For l2 this is the alignment of Etmann et al. 2019 (arXiv 1905.04172), for the gradient g of the winning logit minus
    the runner-up. That difference does not change with a function that is added to all logits. It has the unit of x and
    is at most ||x|| in `norm`. For a linear classifier without bias it is the distance of x to the decision boundary in
    `norm`. The same identity gives the form for linf, which the paper does not have. An l2 length would punish the
    sparse gradients that training in linf makes.
    """
    flat = gradient.double().flatten(1)
    return _ratio((flat * x.flatten(1)).sum(1).abs(), flat.norm(DUAL[norm], dim=1))


def energy_share(gradient: Tensor, mask: Tensor) -> Tensor:
    """Return the share of the gradient's energy on the pixels in `mask`, bool [B, 1 or C, H, W], as [B] in [0, 1].

    This is the energy-based pointing game of Wang et al. 2020 (Score-CAM). A gradient of random pixels, sparse or
    dense, has on average the share of pixels that `mask` has.
    """
    energy = gradient.double().square()
    return _ratio((energy * mask).flatten(1).sum(1), energy.flatten(1).sum(1))


def edge_strength(x: Tensor) -> Tensor:
    """Return the length of the Sobel gradient of images [B, C, H, W], as [B, 1, H, W].

    A colour image is first averaged over its channels.
    """
    smooth, slope = torch.tensor([1.0, 2.0, 1.0]), torch.tensor([-1.0, 0.0, 1.0])
    kernels = torch.stack([smooth[:, None] * slope, slope[:, None] * smooth])[:, None]  # [2, 1, 3, 3]
    return F.conv2d(F.pad(x.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate"), kernels).norm(dim=1, keepdim=True)


def edge_pixels(x: Tensor) -> Tensor:
    """Return which pixels of images [B, C, H, W] are edges, bool [B, 1, H, W].

    An edge pixel has `EDGE` times the image's largest edge strength, or more.
    """
    strength = edge_strength(x)
    return strength >= EDGE * strength.amax((2, 3), keepdim=True)


def edge_alignment(gradient: Tensor, x: Tensor) -> Tensor:
    """Return the cosine between |gradient| and the image's edge strength, [B], in [0, 1].

    For colour images |gradient| is the length over the channels. It decides no claim: k dots on m edge pixels have a
    cosine of at most about sqrt(k / m).
    """
    length = _length(gradient).to(gradient.dtype)
    return F.cosine_similarity(length.flatten(1), edge_strength(x).flatten(1), dim=1)


def low_frequency_share(gradient: Tensor) -> Tensor:
    """Return the share of the gradient's energy below a quarter of the highest frequency, [B].

    White noise of n pixels has about pi / 64 of its energy there. It decides no claim: the spectrum of a dot is flat.
    """
    energy = torch.fft.fft2(gradient).abs().square().sum(1)  # [B, H, W]
    rows, columns = torch.fft.fftfreq(energy.shape[1]), torch.fft.fftfreq(energy.shape[2])
    low = (rows[:, None].square() + columns.square()).sqrt() < 0.5 / 4
    total = energy.flatten(1).sum(1).clamp_min(torch.finfo(gradient.dtype).tiny)
    return (energy * low).flatten(1).sum(1) / total


def principal_components(images: Tensor) -> Tensor:
    """Return the first principal components of `images` [N, ...], as orthonormal columns [d, k], float64.

    k is the smallest number that has the share `VARIANCE` of the variance. Only the first `N_PRINCIPAL` images are
    used, as the time grows with the cube of their number.
    """
    some = images[:N_PRINCIPAL].double().flatten(1)
    centred = some - some.mean(0)
    sizes, vectors = torch.linalg.eigh(centred @ centred.T)
    sizes, vectors = sizes.flip(0), vectors.flip(1)
    k = int((sizes.cumsum(0) < VARIANCE * sizes.sum()).sum()) + 1
    return centred.T @ vectors[:, :k] / sizes[:k].sqrt()


def span_share(gradient: Tensor, components: Tensor) -> Tensor:
    """Return the share of the gradient's energy in the span of orthonormal `components` [d, k], [B] in [0, 1].

    After Bordt et al. 2023 (arXiv 2206.07387), who take the length of the projection onto the tangent space of an
    autoencoder's image manifold, over the length of the gradient. This is the square of such a quotient, for the
    linear manifold of `principal_components`. A random gradient has a share of k / d on average.
    """
    flat = gradient.double().flatten(1)
    return _ratio((flat @ components).square().sum(1), flat.square().sum(1))


def cosine(ours: Tensor, theirs: Tensor) -> Tensor:
    """Return the cosine of `ours` and `theirs`, both [B, ...], as [B] in [-1, 1]."""
    ours, theirs = (each.double().flatten(1) for each in (ours, theirs))
    return _ratio((ours * theirs).sum(1), ours.norm(dim=1) * theirs.norm(dim=1))


def agreement(gradient: Tensor, other: Tensor) -> Tensor:
    """Return the cosine of |gradient| between two models on the same images, [B], in [0, 1].

    For colour images |gradient| is the length over the channels. The cosine of dense noise is high without any
    structure: 2 / pi for independent normal pixels. So it is compared with that of gradients at different images.
    """
    return cosine(_length(gradient), _length(other))


def gradient_numbers(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    neighbours: tuple[Tensor, Tensor],
    components: Tensor | None,
    other: nn.Module | None,
) -> dict[str, dict[str, Tensor]]:
    """Return numbers on how a model's gradients relate to the images, each [B], by norm (claim C11).

    The norm is "none" for numbers that have none. They are measures of the loss gradient, unless said otherwise.

    | number | measure |
    |---|---|
    | `alignment`, in each norm | `alignment` of the decision's gradient; at most the norm of x |
    | `object_share` | `energy_share` on pixels that are not black; of grey images only |
    | `object_pixels` | the share of pixels that are not black, which `object_share` is compared with |
    | `span_share` | with `components`; of colour images only, for which `components` is not None |
    | `span_pixels` | k / d, which `span_share` is compared with |
    | `edge_share`, `edge_pixels` | `energy_share` on edge pixels, and the share of pixels that they are |
    | `class_way` | see below |
    | `agreement`, `agreement_elsewhere` | with the model `other`, on the same image and on the next image |
    | `edge_alignment`, `low_frequency_share` | the measures of earlier versions |

    `neighbours` are for each example the nearest training image of another class [B, ...], and its class [B].
    `class_way` is the cosine between the gradient of that class's logit and the way to that image, after Ganz, Kawar &
    Elad 2023 (arXiv 2207.11378).
    """
    gradient, decision = loss_gradients(model, x, y), decision_gradients(model, x)
    edges = edge_pixels(x)
    numbers = {"edge_share": energy_share(gradient, edges), "edge_pixels": edges.double().mean((1, 2, 3))}
    if components is None:
        on_object = x > 0
        numbers["object_share"] = energy_share(gradient, on_object)
        numbers["object_pixels"] = on_object.double().mean((1, 2, 3))
    else:
        numbers["span_share"] = span_share(gradient, components)
        numbers["span_pixels"] = torch.full_like(numbers["span_share"], components.shape[1] / len(components))
    image, label = neighbours
    numbers["class_way"] = cosine(logit_gradients(model, x, label), image - x)
    if other is not None:
        theirs = loss_gradients(other, x, y)
        numbers["agreement"] = agreement(gradient, theirs)
        numbers["agreement_elsewhere"] = agreement(gradient, theirs.roll(1, 0))
    numbers["edge_alignment"] = edge_alignment(gradient, x)
    numbers["low_frequency_share"] = low_frequency_share(gradient)
    return {"none": numbers, **{norm: {"alignment": alignment(decision, x, norm)} for norm in DUAL}}


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
