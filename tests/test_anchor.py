"""A net that this project neither defined nor trained: our evaluation beside AutoAttack as its authors run it.

IBM's adversarial-robustness-toolbox trains the net. The authors' AutoAttack package attacks it without this project's
wrapper, by APGD on cross-entropy and targeted APGD, the two of its set that find most. Both robust accuracies are upper
bounds of the same number.
"""

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from robacc.attack.evaluation import evaluate
from robacc.images import loading
from robacc.params import Attack

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of their own imports
    from art.defences.trainer import AdversarialTrainerMadryPGD
    from art.estimators.classification import PyTorchClassifier
    from pyautoattack import AutoAttack

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
EPS, N = {"linf": 0.1, "l2": 1.0}, 100


@pytest.fixture(scope="module")
def images(mnist: Path) -> tuple[Tensor, Tensor]:
    return loading.load(mnist / "test.safetensors").first(N)


@pytest.fixture(scope="module")
def net(mnist: Path) -> nn.Module:
    """Give a net that the toolbox trained on 6,000 images, on its own PGD examples in linf."""
    x, y = loading.load(mnist / "train.safetensors").first(6000)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = nn.Sequential(
            nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(8 * 49, 10)
        )
        classifier = PyTorchClassifier(
            made,
            loss=nn.CrossEntropyLoss(),
            optimizer=torch.optim.Adam(made.parameters(), lr=0.01),
            input_shape=(1, 28, 28),
            nb_classes=10,
            clip_values=(0, 1),
            device_type="cpu",
        )
        trainer = AdversarialTrainerMadryPGD(
            classifier, nb_epochs=1, batch_size=50, eps=EPS["linf"], eps_step=0.05, max_iter=3
        )
        trainer.fit(x.numpy(), nn.functional.one_hot(y, 10).numpy())
    return made.eval()


@pytest.mark.parametrize("norm", EPS)
def test_our_evaluation_finds_what_autoattack_finds(norm, net, images):
    # trap 19, trap 32
    (x, y), eps = images, EPS[norm]
    outcomes, _ = evaluate(net, x, y, norm, [eps], Attack.standard(), n_robust=N, n_checked=64, seed=0)
    _, standard, ours = (row["n_correct"] / N for row in outcomes.counts())  # all N images are attacked
    with torch.random.fork_rng(devices=[]):
        attacks = ["apgd-ce", "apgd-t"]
        peer = AutoAttack(net, norm=norm.capitalize(), eps=eps, attacks=attacks, version="custom", seed=0)
        peer.apgd.n_restarts = 1
        x_adv, _ = peer.run_standard_evaluation(x, y, batch_size=N)
    with torch.no_grad():
        theirs = (net(x_adv).argmax(1) == y).double().mean().item()
    assert standard > 0.85
    assert 0.1 < theirs < standard - 0.05  # neither everything nor nothing is fooled: the comparison can fail
    # Ours may find more, as it searches without gradients too.
    assert -0.05 < ours - theirs < 0.02, f"AutoAttack: {theirs:.3f}, ours: {ours:.3f}"
