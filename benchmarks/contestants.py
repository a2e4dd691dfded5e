"""PGD in linf, ours and by the peers: what is timed."""

import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robacc.attack.norms import Linf
from robacc.attack.pgd import pgd

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of their own imports
    import foolbox
    import torchattacks
    from art.attacks.evasion import ProjectedGradientDescent
    from art.estimators.classification import PyTorchClassifier

Attack = Callable[[Tensor, Tensor], Tensor]  # x, y -> x_adv


def ours(net: nn.Module, *, eps: float, step_size: float, n_steps: int) -> Attack:
    """Return the PGD of this project, from the image itself."""
    return lambda x, y: pgd(net, x, y, Linf(eps), start=x, n_steps=n_steps, step_size=step_size)


def plain_loop(net: nn.Module, *, eps: float, step_size: float, n_steps: int) -> Attack:
    """Return PGD as one would write it first."""

    def attack(x: Tensor, y: Tensor) -> Tensor:
        x_adv = x.clone()
        for _ in range(n_steps):
            x_adv.requires_grad_()
            (grad,) = torch.autograd.grad(F.cross_entropy(net(x_adv), y), x_adv)
            x_adv = torch.clamp(x + torch.clamp(x_adv.detach() + step_size * grad.sign() - x, -eps, eps), 0, 1)
        return x_adv

    return attack


def by_torchattacks(
    net: nn.Module, *, eps: float, step_size: float, n_steps: int, random_start: bool = False
) -> Attack:
    """Return the PGD of torchattacks."""
    return torchattacks.PGD(net, eps=eps, alpha=step_size, steps=n_steps, random_start=random_start)


def by_foolbox(net: nn.Module, *, eps: float, step_size: float, n_steps: int) -> Attack:
    """Return the PGD of foolbox."""
    model = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    attack = foolbox.attacks.LinfPGD(abs_stepsize=step_size, steps=n_steps, random_start=False)
    return lambda x, y: attack.run(model, x, y, epsilon=eps)


def by_art(net: nn.Module, *, eps: float, step_size: float, n_steps: int) -> Attack:
    """Return the PGD of the adversarial-robustness-toolbox."""

    def attack(x: Tensor, y: Tensor) -> Tensor:
        model = PyTorchClassifier(
            net, loss=nn.CrossEntropyLoss(), input_shape=tuple(x.shape[1:]), nb_classes=10, clip_values=(0, 1)
        )
        peer = ProjectedGradientDescent(
            model, norm="inf", eps=eps, eps_step=step_size, max_iter=n_steps, batch_size=len(x), verbose=False
        )
        return torch.tensor(peer.generate(x.numpy(), y.numpy()))

    return attack


PEERS = {
    "plain loop": plain_loop,
    "torchattacks": by_torchattacks,
    "foolbox": by_foolbox,
    "adversarial-robustness-toolbox": by_art,
}
