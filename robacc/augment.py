"""Random changes of training images that leave their label."""

import torch
import torch.nn.functional as F
from torch import Tensor


def crop_and_flip(x: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Return each image of `x` [B, C, H, W] shifted by up to `padding` pixels, black moving in, half of them mirrored.

    What cifar10_challenge does, with padding 2. Every shift is equally likely, each image drawing its own.
    """
    b, _, h, w = x.shape
    top, left = (torch.randint(2 * padding + 1, (b, 1), generator=generator) for _ in range(2))
    mirrored = torch.rand(b, 1, generator=generator) < 0.5
    rows = top + torch.arange(h)  # [B, H]
    columns = left + torch.arange(w).where(~mirrored, torch.arange(w).flip(0))  # [B, W]
    padded = F.pad(x, (padding, padding, padding, padding))
    cropped = padded[torch.arange(b)[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # [B, H, W, C]
    return cropped.permute(0, 3, 1, 2)
