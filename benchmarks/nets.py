"""The nets as one would write them first, which the peers get, and the work of a net.

Apart from the benchmark, as the tests have not every peer.
"""

import copy

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from robacc.nets.layers import FlattenChannelsLast, StridedConv


def plain(net: nn.Sequential) -> nn.Sequential:
    """Return a copy of the net in PyTorch's default layout, every `StridedConv` as the layer it stands for.

    A copy, as a change of layout would change it, and the speed, in the net itself.
    """
    layers: list[nn.Module] = []
    for layer in copy.deepcopy(net):
        if isinstance(layer, StridedConv):
            bias = layer.bias is not None
            layers.append(nn.Conv2d(layer.in_channels, layer.out_channels, 4, stride=2, padding=1, bias=bias))
            layers[-1].load_state_dict(layer.state_dict())
        elif isinstance(layer, nn.Sequential):
            layers.append(plain(layer))
        else:
            layers.append(FlattenChannelsLast() if isinstance(layer, FlattenChannelsLast) else layer)
    return nn.Sequential(*layers).to(memory_format=torch.contiguous_format)


def multiply_adds(net: nn.Module, x: Tensor) -> float:
    """Return the multiply-adds of one image through a plain net."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(x[:1])
    return counter.get_total_flops() / 2
