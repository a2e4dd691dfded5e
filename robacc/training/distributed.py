"""Train one model in several processes, on the GPUs of one or several hosts, started by torchrun.

Every process holds the whole model and computes its share of each batch. Gradients are averaged, so all processes take
the same step. Up to rounding, it is the step of one process with the whole batch. The attack needs no communication.
Several processes and hosts on CPUs (gloo) are tested, and a group of one process on a GPU (nccl), not several GPUs.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from robacc.files import tensors_in
from robacc.training.world import ALONE, World

TIMEOUT = timedelta(minutes=10)  # for one message; a host that has died is noticed after it


class _Total(torch.autograd.Function):
    """The sum over all processes: of values in the forward pass, of gradients in the backward pass."""

    @staticmethod
    def forward(ctx, values: Tensor) -> Tensor:  # noqa: ANN001
        """Return the sum of `values` over all processes."""
        total = values.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:  # noqa: ANN001
        """Return the gradient of the sum of all processes' losses."""
        total = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


class JointBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` with batch statistics over all processes.

    PyTorch's own `SyncBatchNorm` needs GPUs. The shares of the processes may differ in size. In evaluation mode it is
    `nn.BatchNorm2d` without communication.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [B, C, H, W] over B, H, W of all processes."""
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        sums = _Total.apply(torch.cat([x.sum((0, 2, 3)), x.new_tensor([x.numel() / x.shape[1]])]))
        n = sums[-1].detach()
        mean = sums[:-1] / n
        deviation = x - mean[:, None, None]
        var = _Total.apply(deviation.square().sum((0, 2, 3))) / n
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * n / (n - 1), self.momentum)
        scale = self.weight * (var + self.eps).rsqrt()
        return deviation * scale[:, None, None] + self.bias[:, None, None]


def join_batch_norms(model: nn.Module) -> nn.Module:
    """Replace every `nn.BatchNorm2d` inside `model` by a `JointBatchNorm2d`, and return `model`.

    A new layer uses the tensors of the old one, not copies.
    """
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.BatchNorm2d:
                joint = JointBatchNorm2d(child.num_features)
                joint.__dict__.update(child.__dict__)
                setattr(parent, name, joint)
    return model


class Group(World):
    """The processes that torchrun started.

    Each process must call every method at the same point. Otherwise all processes block until `TIMEOUT`.
    """

    def __init__(self, rank: int, size: int, local_rank: int, device: torch.device) -> None:
        self.rank, self.size, self.local_rank, self.device = rank, size, local_rank, device

    def join(self, model: nn.Module) -> nn.Module:
        """Return `model` wrapped so that its backward pass averages gradients over all processes.

        Its batch norms become joint ones, in place.
        """
        # The warning is about kernels with one channel or one pixel. Their two layouts are the same in memory.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        if self.device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
            joined = DistributedDataParallel(model, device_ids=[self.local_rank])
        else:
            joined = DistributedDataParallel(join_batch_norms(model))
        # Joint batch norms are the same in every process. Before 2.13 PyTorch has another name for the argument.
        joined.broadcast_buffers = False
        return joined

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of `values` over all processes."""
        total = values.detach().clone()
        dist.all_reduce(total)
        return total

    def _first(self, values: Tensor) -> Tensor:
        values = values.to(self.device)
        dist.broadcast(values, 0)
        return values

    def read(self, path: Path) -> tuple[dict[str, Tensor], dict] | None:
        """Return what the first process finds at `path`.

        The other processes need no access to its disk.
        """
        content = path.read_bytes() if self.rank == 0 and path.exists() else b""
        size = int(self._first(torch.tensor(len(content))))
        if size == 0:
            return None
        mine = torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else torch.empty(size).byte()
        content = self._first(mine).cpu().numpy().tobytes()
        return tensors_in(content, path)

    def agree(self, value: bool) -> bool:
        """Return the first process's `value` in every process."""
        return bool(self._first(torch.tensor(value)))

    def check_same(self, text: str, what: str) -> None:
        """Raise ValueError in every process unless all have the same `text`, such as a hash.

        The message calls it `what`.
        """
        mine = torch.tensor(list(text.encode()), device=self.device)
        theirs = self._first(mine.clone())
        differ = int(self.total((mine != theirs).any().long()))
        if differ:
            raise ValueError(f"expected {what} to be the same on every host, got another one in {differ} processes")

    def wait(self) -> None:
        """Block until every process has called this method."""
        self.total(torch.zeros(1, device=self.device))


@contextmanager
def group(device_type: str) -> Iterator[World]:
    """Yield the world that torchrun's environment variables describe.

    Its backend is nccl for device "cuda", and otherwise gloo. A single process gets `ALONE`, as without torchrun.
    Raises ValueError outside torchrun.
    """
    try:
        rank, size, local_rank = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    except KeyError as error:
        raise ValueError(f"expected {error.args[0]} in the environment, got none; start this with torchrun") from None
    if size == 1:
        yield ALONE
        return
    device = torch.device("cuda", local_rank) if device_type == "cuda" else torch.device("cpu")
    dist.init_process_group("nccl" if device_type == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield Group(rank, size, local_rank, device)
    finally:
        dist.destroy_process_group()
