"""The benchmark's own promises; nothing is timed here."""

import torch

from benchmarks.nets import plain
from robacc.nets import model as nets
from robacc.nets.layers import StridedPair


def test_the_peers_net_is_a_copy_and_leaves_ours_in_its_own_layout() -> None:
    net = nets.build("narrow_cnn", mean=[0.5], std=[0.5], seed=0).eval()
    assert isinstance(net, torch.nn.Sequential)
    layouts = {name: parameter.stride() for name, parameter in net.named_parameters()}
    theirs = plain(net).eval()
    assert {name: parameter.stride() for name, parameter in net.named_parameters()} == layouts
    assert not {p.data_ptr() for p in net.parameters()} & {p.data_ptr() for p in theirs.parameters()}
    x = torch.rand(3, 1, 28, 28)
    torch.testing.assert_close(theirs(x), net(x))
    assert all(parameter.is_contiguous() for parameter in theirs.parameters())
    assert not any(isinstance(layer, StridedPair) for layer in theirs.modules())
