"""Build, run, save and load nets."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor, nn

from robacc.files import read_tensors, write_tensors
from robacc.nets.layers import Normalize, StridedConv
from robacc.nets.names import NAMES
from robacc.seeding import derive

CHUNK = 500  # examples in one forward pass, of images up to 64x64; limits the memory
LARGEST = 3 * 64 * 64  # numbers of an image, above which a chunk has fewer images
SPEC = ("arch", "mean", "std", "n_classes")  # what rebuilds a net


def _net(arch: str, n_classes: int) -> nn.Module:
    if arch not in NAMES:
        raise ValueError(f"expected arch to be one of {', '.join(NAMES)}, got {arch!r}")
    return import_module(f"robacc.nets.{arch}").net(n_classes)  # by name, so that a change to one net retrains no other


def build(arch: str, *, mean: list[float], std: list[float], seed: int, n_classes: int = 10) -> nn.Module:
    """Return a newly initialised net `arch` after its normalisation, in channels-last layout.

    The weights are a function of `seed` alone. The initialisation is PyTorch's default, except for `cifar_resnet`.
    Raises ValueError for an unknown `arch`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "weights"))
        net = nn.Sequential(Normalize(mean, std), _net(arch, n_classes))
    return net.to(memory_format=torch.channels_last)


def chunks(*tensors: Tensor) -> list[tuple[Tensor, ...]]:
    """Return `tensors`, whose first one is images `x` [N, ...], in parts for one forward pass each.

    A part has `CHUNK` images, or as many fewer as an image is larger than 64x64. At 224 pixels ResNet-50 keeps 82 MB an
    image for its gradient.
    """
    size = max(1, CHUNK * LARGEST // max(LARGEST, tensors[0][:1].numel()))
    return list(zip(*(tensor.split(size) for tensor in tensors), strict=True))


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Put `model` in evaluation mode inside the context.

    On exit, also by an error, every submodule returns to its own mode.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Put `model` in evaluation mode with constant parameters inside the context, for an attack.

    No gradient is recorded for the parameters. What a layer computes from parameters alone is computed once. On exit,
    also by an error, all of this is undone.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    convs = [module for module in model.modules() if isinstance(module, StridedConv) and module.constant is None]
    with eval_mode(model):
        try:
            for parameter in trained:
                parameter.requires_grad_(False)
            for conv in convs:
                conv.constant = conv.kernel_on_blocks()
            yield
        finally:
            for conv in convs:
                conv.constant = None
            for parameter in trained:
                parameter.requires_grad_(True)


def predict(model: nn.Module, x: Tensor) -> Tensor:
    """Return the predicted labels [N] of `x` [N, ...]."""
    with eval_mode(model), torch.no_grad():
        return torch.cat([model(chunk).argmax(1) for (chunk,) in chunks(x)])


def save(model: nn.Module, path: Path, spec: dict) -> None:
    """Save a model with its `spec`.

    `spec` has "arch", "mean", "std" and "n_classes", which rebuild the model, and any further description.
    """
    write_tensors(model.state_dict(), path, spec)


def load(path: Path) -> tuple[nn.Module, dict]:
    """Return the model in the file `path`, in evaluation mode, and its spec.

    Raises ValueError for a damaged file, and for a spec or weights of another net.
    """
    state, spec = read_tensors(path)
    if missing := [name for name in SPEC if name not in spec]:
        raise ValueError(f"expected {', '.join(SPEC)} in the metadata of {path}, got no {', '.join(missing)}")
    try:
        model = build(spec["arch"], mean=spec["mean"], std=spec["std"], seed=0, n_classes=spec["n_classes"])
        model.load_state_dict(state)
    except (RuntimeError, TypeError, ValueError) as error:
        words = " ".join(str(error).split())
        raise ValueError(f"expected {path} to be a model of {spec['arch']!r}; it is not: {words}") from error
    return model.eval(), spec
