"""Random crops and flips of a batch, before the attack: cifar10_challenge's augmentation, each image its own draw."""

import torch
from torch import Tensor
from torch.nn.functional import pad


def crop_and_flip(x: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Return `x` [B, C, H, W], each image shifted by up to `padding` pixels and mirrored with probability 1/2.

    A crop of the original size from the image with `padding` pixels of 0 around it, at a uniform
    place, then a horizontal flip. Every output pixel is an input pixel or 0, so images in [0, 1]
    stay there. A function of `x` and the CPU `generator` alone, whatever the device of `x`: one
    gather, no loop over images (0.5 ms for 128 CIFAR-10 images on one core).
    """
    n, channels, height, width = x.shape
    top, left = torch.randint(2 * padding + 1, (2, n), generator=generator)
    flip = torch.rand(n, generator=generator) < 0.5
    rows = top[:, None] + torch.arange(height)  # [B, H]
    columns = left[:, None] + torch.arange(width)  # [B, W]
    columns = torch.where(flip[:, None], columns.flip(1), columns)
    pixels = (rows[:, :, None] * (width + 2 * padding) + columns[:, None, :]).flatten(1).to(x.device)  # [B, H * W]
    padded = pad(x, (padding,) * 4).flatten(2)  # [B, C, (H + 2 padding) * (W + 2 padding)]
    return padded.gather(2, pixels[:, None].expand(-1, channels, -1)).view_as(x)
