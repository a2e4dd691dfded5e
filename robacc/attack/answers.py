"""Ask a model about images: its margins and predictions, and a model that is asked about copies alone.

A tie at the top counts as an error. So an example is right exactly where its margin is below 0.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from robacc.images.sets import ImageSet
from robacc.nets.model import chunks, eval_mode


class Guarded(nn.Module):
    """The logits of `model` on a copy of the images, refused where they are no logits of these images.

    A model that changes its input in place then changes nothing that the attack, or its caller, still uses.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = model.training

    def forward(self, x: Tensor) -> Tensor:
        """Return model(x), [B, K].

        Raises TypeError unless it is one tensor of the type of `x`. Raises ValueError for another shape or one class,
        and if `x` requires a gradient that the model cuts off.
        """
        logits = self.model(x.clone())
        if not isinstance(logits, Tensor):
            raise TypeError(
                f"expected model(x) to be one tensor of logits [{len(x)}, K], got {type(logits).__name__}; "
                "wrap the model to return its logits alone, such as output[0] or output.logits"
            )
        if logits.ndim != 2 or len(logits) != len(x) or logits.shape[1] < 2:
            raise ValueError(f"expected logits [{len(x)}, K] of K >= 2 classes, got {tuple(logits.shape)}")
        if logits.dtype != x.dtype:
            raise TypeError(f"expected logits of the type of x, {x.dtype}, got {logits.dtype}; convert one of the two")
        if torch.is_grad_enabled() and x.requires_grad and not logits.requires_grad:
            raise ValueError("expected logits with a gradient for x, got none; remove no_grad or detach from the model")
        return logits


def guarded(model: nn.Module) -> nn.Module:
    """Return `model` as a `Guarded` one, or `model` itself if it is one."""
    return model if isinstance(model, Guarded) else Guarded(model)


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """Return the largest wrong logit minus the true logit, [B] (Carlini & Wagner 2017).

    An example is right exactly where its margin is below 0. A margin of 0 is a tie at the top, and an error. A scaling
    of the logits does not change the direction of the margin's gradient. The gradient of the cross-entropy underflows
    to zero for very confident models.
    """
    true = logits.gather(1, y[:, None])
    return (wrong_logits(logits, y).amax(1, keepdim=True) - true)[:, 0]


def check_numbers(margins: Tensor) -> None:
    """Raise FloatingPointError if one of `margins` [B] is NaN, which would otherwise count as robust."""
    n_broken = int(margins.isnan().sum())
    if n_broken:
        raise FloatingPointError(
            f"expected logits that are numbers, got NaN for {n_broken} of {len(margins)} images: "
            "the model's logits are NaN; no accuracy can be measured"
        )


def wrong_logits(logits: Tensor, y: Tensor) -> Tensor:
    """Return `logits` [B, K] with that of the true class at minus infinity."""
    return logits.scatter(1, y[:, None], -torch.inf)


def parts(x: Tensor | ImageSet, y: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield images `x` and labels `y` [N] in parts for one forward pass each, those of `chunks`.

    The images of a set become floats one part at a time. All of them may need more memory than a process has.
    """
    if isinstance(x, Tensor):
        yield from chunks(x, y)
        return
    first, _ = x.first(1)
    for _, part in chunks(first.expand(len(x), *first.shape[1:]), torch.arange(len(x))):
        yield x.batch(part)[0], y[part]


def answers(model: nn.Module, x: Tensor | ImageSet, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the predictions for `x`, images [N, ...] or a set of them, and the margins of the labels `y`, both [N].

    The prediction is the class of the largest logit. At a tie of the true class with others it is one of the others.
    Raises the errors of `Guarded`, ValueError for a label that is no class, and FloatingPointError for NaN logits.
    """
    model, predicted, margins = guarded(model), [], []
    with eval_mode(model), torch.no_grad():
        for x_part, y_part in parts(x, y):
            logits = model(x_part)
            n_classes = logits.shape[1]
            if len(y) and y.max() >= n_classes:
                raise ValueError(f"expected labels under {n_classes}, the number of logits, got labels up to {y.max()}")
            found = margin(logits, y_part)
            check_numbers(found)
            predicted.append(torch.where(found < 0, y_part, wrong_logits(logits, y_part).argmax(1)))
            margins.append(found)
    return torch.cat(predicted), torch.cat(margins)
