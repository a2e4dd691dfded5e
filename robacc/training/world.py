"""Define the processes that train one model together.

The class here is a single process. `distributed.Group` is several processes.
"""

from pathlib import Path

from torch import Tensor, nn

from robacc.files import read_tensors


class World:
    """A world of a single process, without communication.

    `rank` is the index of this process among all `size` processes. `local_rank` is its index on its host.
    """

    rank = 0
    size = 1
    local_rank = 0

    def shard(self, n: int) -> slice:
        """Return the slice of `n` examples that this process computes.

        The slices are contiguous and in the order of ranks. Their sizes differ by at most one. Raises ValueError if
        there are fewer examples than processes.
        """
        if n < self.size:
            raise ValueError(f"expected a batch of at least one example a process, got {n} for {self.size}")
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def join(self, model: nn.Module) -> nn.Module:
        """Return `model` as a training step calls it on this process's examples.

        Its backward pass averages gradients over all processes.
        """
        return model

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of `values` over all processes."""
        return values

    def read(self, path: Path) -> tuple[dict[str, Tensor], dict] | None:
        """Return tensors and metadata of the first process's file `path`, or None if it does not exist."""
        return read_tensors(path) if path.exists() else None

    def agree(self, value: bool) -> bool:
        """Return the first process's `value` in every process."""
        return value

    def check_same(self, text: str, what: str) -> None:
        """Raise ValueError unless `text` is the same in every process.

        The message calls it `what`.
        """

    def wait(self) -> None:
        """Block until every process has called this method."""


ALONE = World()
