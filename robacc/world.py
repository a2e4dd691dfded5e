"""The processes that train one model together. Here one, alone; several are a `robacc.distributed.Group`."""

from pathlib import Path

from torch import Tensor, nn

from robacc.files import read_tensors


class World:
    """One process, which is all there is: whatever it has is the whole, and nothing is sent.

    `rank` is the number of this process among `size`, `local_rank` that among those of its host.
    """

    rank = 0
    size = 1
    local_rank = 0

    def shard(self, n: int) -> slice:
        """Return which of `n` examples are this process's: contiguous, in the order of ranks, sizes within one.

        Raises ValueError if there are fewer examples than processes.
        """
        if n < self.size:
            raise ValueError(f"expected a batch of at least one example a process, got {n} for {self.size}")
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def join(self, model: nn.Module) -> nn.Module:
        """Return what maps this process's examples to logits in a training step, gradients being averaged over all."""
        return model

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of every process's `values`."""
        return values

    def read(self, path: Path) -> tuple[dict[str, Tensor], dict] | None:
        """Return tensors and metadata that the first process finds at `path`, None if it finds nothing."""
        return read_tensors(path) if path.exists() else None

    def agree(self, value: bool) -> bool:
        """Return the first process's `value`."""
        return value

    def check_same(self, text: str, what: str) -> None:
        """Raise ValueError unless every process has the same `text`."""

    def wait(self) -> None:
        """Return when every process has come here."""


ALONE = World()
