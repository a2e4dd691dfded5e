"""Established attack libraries attack the same trained nets with the same budget, on real MNIST.

foolbox and IBM's adversarial-robustness-toolbox: widely used, independent of each other and of the paper's
authors, and both have PGD with a random start in either norm. (torchattacks pins a `requests` too old for DVC.)
The nets are trained here, shortly.
"""

import warnings
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from robacc.attack.adversary import attack, smallest_fooling_eps
from robacc.attack.norms import threat_model
from robacc.balls import STANDARD, Ball
from robacc.images import loading
from robacc.nets.model import predict
from robacc.params import Attack
from robacc.training.jobs import Job
from robacc.training.train import train
from tests.made_up_attacks import both_norms, weak
from tests.recipes_made_up import tiny

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of their own imports
    import foolbox
    from art.attacks.evasion import ProjectedGradientDescent
    from art.estimators.classification import PyTorchClassifier

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
RECIPE = tiny(
    lr=[[0.0, 0.003], [1.0, 0.0]], weight_decay=0.0, batch_size=100, steps=[[1, 150]], attack_steps=5, eps_warmup=0.2
)
EPS = {("standard", "linf"): 0.05, ("standard", "l2"): 0.5, ("robust", "linf"): 0.1, ("robust", "l2"): 1.0}
N, N_STEPS, STEP_SIZE = 1000, 40, 0.0625
OURS = weak(n_steps=N_STEPS, step_size=2 * STEP_SIZE)  # it falls to 0, so its mean is the peers'
cases = pytest.mark.parametrize(("training", "norm"), EPS)


@pytest.fixture(scope="module")
def nets(mnist: Path, tmp_path_factory) -> dict[tuple[str, str], nn.Module]:
    """Give a standard and a robust net for each norm, 150 steps each."""
    images = loading.load(mnist / "train.safetensors")
    folder = tmp_path_factory.mktemp("checkpoints")
    made = {}
    for (training, norm), eps in EPS.items():
        job = Job(Ball(norm, eps) if training == "robust" else STANDARD, len(images), seed=0)
        made[training, norm] = train(
            job, images, RECIPE, log_every=50, checkpoint=folder / f"{training}-{norm}", checkpoint_every=1000
        ).model.eval()
    return made


@pytest.fixture(scope="module")
def test_images(mnist: Path) -> tuple[Tensor, Tensor]:
    return loading.load(mnist / "test.safetensors").first(N)


def by_foolbox(net: nn.Module, x: Tensor, y: Tensor, norm: str, eps: float) -> Tensor:
    """Return which examples foolbox's PGD fools."""
    kind = {"linf": foolbox.attacks.LinfPGD, "l2": foolbox.attacks.L2PGD}[norm]
    model = foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu")
    peer = kind(rel_stepsize=STEP_SIZE, steps=N_STEPS, random_start=True)
    _, _, fooled = peer(model, x, y, epsilons=eps)
    return fooled


def by_art(net: nn.Module, x: Tensor, y: Tensor, norm: str, eps: float) -> Tensor:
    """Return which examples the adversarial-robustness-toolbox's PGD fools."""
    shape, loss = tuple(x.shape[1:]), nn.CrossEntropyLoss()
    model = PyTorchClassifier(net, loss=loss, input_shape=shape, nb_classes=10, clip_values=(0, 1), device_type="cpu")
    peer = ProjectedGradientDescent(
        model,
        norm={"linf": "inf", "l2": 2}[norm],
        eps=eps,
        eps_step=STEP_SIZE * eps,
        max_iter=N_STEPS,
        num_random_init=1,
        batch_size=len(x),
        verbose=False,
    )
    return predict(net, torch.tensor(peer.generate(x.numpy(), y.numpy()))) != y


@cases
def test_our_robust_accuracy_is_that_of_the_established_libraries(training, norm, nets, test_images):
    # trap 19, trap 20, trap 22, trap 23
    net, (x, y), eps = nets[training, norm], test_images, EPS[training, norm]
    torch.manual_seed(0)
    _, ours = attack(net, x, y, threat_model(norm, eps), OURS, seed=0)
    own = 1 - ours.double().mean().item()
    assert (predict(net, x) == y).double().mean() > 0.85
    assert 0.1 < own < 0.97  # neither everything nor nothing is fooled: the comparison can fail
    for peer in (by_foolbox, by_art):
        theirs = 1 - peer(net, x, y, norm, eps).double().mean().item()
        assert abs(own - theirs) <= 0.01, f"{peer.__name__}: {theirs:.3f}, ours: {own:.3f}"


@cases
def test_robust_accuracy_over_steps_restarts_and_eps(training, norm, nets, test_images):
    # trap 32: falls with restarts (the starts are shared) and, within half a point, with steps
    net, eps = nets[training, norm], EPS[training, norm]
    x, y = (part[:400] for part in test_images)

    def robust(n_steps: int, n_starts: int = 1) -> float:
        settings = weak(n_starts, n_steps=n_steps, step_size=5 / n_steps)
        _, fooled = attack(net, x, y, threat_model(norm, eps), settings, seed=0)
        return 1 - fooled.double().mean().item()

    by_steps = [robust(n_steps) for n_steps in (5, 10, 40)]
    assert all(more <= fewer + 0.005 for fewer, more in pairwise(by_steps))
    one, two, three = (robust(10, n) for n in (1, 2, 3))
    assert one >= two >= three
    outcome = smallest_fooling_eps(net, x[:300], y[:300], norm, [eps / 2, eps, 2 * eps], OURS, seed=0)
    shares = [(outcome > radius).double().mean().item() for radius in (0.0, eps / 2, eps, 2 * eps)]
    assert shares == sorted(shares, reverse=True)


@both_norms
def test_transferred_examples_are_weaker_than_our_own(norm, nets, test_images):
    # trap 32
    (x, y), threat = test_images, threat_model(norm, EPS["robust", norm])
    robust, standard = nets["robust", norm], nets["standard", norm]
    from_robust, robust_fooled = attack(robust, x, y, threat, OURS, seed=0)
    from_standard, standard_fooled = attack(standard, x, y, threat, OURS, seed=0)
    assert (predict(robust, from_standard) != y).sum() < robust_fooled.sum()
    assert (predict(standard, from_robust) != y).sum() < standard_fooled.sum()
    assert robust_fooled.sum() < standard_fooled.sum() - 0.05 * N  # nets that are all alike would pass everything here


def test_the_walk_over_eps_is_never_weaker_than_each_eps_from_nothing(nets, test_images):
    net, (x, y) = nets["robust", "linf"], test_images
    grid, settings = [0.05, 0.1, 0.2], Attack.standard()
    outcome = smallest_fooling_eps(net, x[:400], y[:400], "linf", grid, settings, seed=0)
    for eps in grid:
        _, fooled = attack(net, x[:400], y[:400], threat_model("linf", eps), settings, seed=0)
        assert (outcome > eps).sum() <= (~fooled).sum() + 4  # the random starts are others, which is worth a point
