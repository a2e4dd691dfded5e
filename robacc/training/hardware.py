"""Choose the device and the arithmetic of a model.

No other module decides this. `make gpu-check` measures all of it on a GPU. The tests have mixed precision and loss
scaling on the CPU, which has the same operations.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robacc.attack.norms import Threat
from robacc.attack.pgd import pgd

GRAPHS = "reduce-overhead"  # the mode of torch.compile with CUDA graphs


@dataclass(frozen=True)
class Hardware:
    """A device and its arithmetic.

    `precision` is the type of convolutions and matrix products. Weights are float32.
    """

    device: torch.device
    precision: torch.dtype
    tf32: bool  # whether a GPU rounds the factors of float32 products to 10 mantissa bits
    compile_mode: str | None  # of torch.compile; None does not compile

    def prepare(self, model: nn.Module) -> nn.Module:
        """Return `model` on the device, in channels-last layout, compiled in place unless `compile_mode` is None.

        On a GPU this also sets PyTorch's global switches for TF32 and for the cuDNN benchmark.
        """
        if self.device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.tf32
            torch.backends.cudnn.benchmark = self.precision != torch.float32  # every batch has the same shape
        model = model.to(self.device).to(memory_format=torch.channels_last)
        if self.compile_mode is None:
            return model
        forward = model.forward

        # A function of ours, as PyTorch 2.11 begins no graph in its own: of nn.Sequential each layer became one.
        def net(x: Tensor) -> Tensor:
            return forward(x)

        trained = torch.compile(net, mode=self.compile_mode)
        # The graph of a whole attack can hold no graphs of its steps.
        attacked = torch.compile(net) if self.compile_mode == GRAPHS else trained

        def compiled(x: Tensor) -> Tensor:
            return (trained if model.training else attacked)(x)

        model.forward = compiled
        return model

    def attack(self) -> Callable[..., Tensor]:
        """Return `pgd` as the training steps of one model call it: with CUDA graphs, as one graph."""
        return OneGraph(cuda_graph) if self.compile_mode == GRAPHS else pgd

    def images(self, x: Tensor) -> Tensor:
        """Return `x` [B, C, H, W] on the device, in channels-last layout."""
        return x.to(self.device, non_blocking=True).contiguous(memory_format=torch.channels_last)

    def autocast(self) -> AbstractContextManager:
        """Return the autocast context of a training step's forward pass.

        Parameters and their gradients stay float32.
        """
        if self.precision == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.precision)

    def autocast_attack(self) -> AbstractContextManager:
        """Return the autocast context of the attack.

        The input and its gradient stay float32. The attack never uses float16: a confident model's gradients underflow
        in it, and an attack has no loss scaler.
        """
        return nullcontext() if self.precision == torch.float16 else self.autocast()

    def scaler(self) -> torch.amp.GradScaler:
        """Return the loss scaler, which is active in float16 only.

        Small gradients are 0 in float16 without it.
        """
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == torch.float16)


CPU = Hardware(torch.device("cpu"), torch.float32, tf32=False, compile_mode=None)
SETTINGS = ("auto", "cpu", "cuda", "cuda-fp32")


def device_type(setting: str) -> str:
    """Return "cuda" or "cpu", the device type for a hardware `setting`.

    Raises ValueError for an unknown setting, and for a "cuda" setting without a GPU.
    """
    if setting not in SETTINGS:
        raise ValueError(f"expected hardware to be one of {', '.join(SETTINGS)}, got {setting!r}")
    there = torch.cuda.is_available()
    if setting.startswith("cuda") and not there:
        raise ValueError(f"expected a GPU for hardware {setting!r}, got none; set training.hardware to auto or cpu")
    return "cuda" if there and setting != "cpu" else "cpu"


def choose(setting: str, *, local_rank: int, n_processes: int) -> Hardware:
    """Return the hardware of one of the `n_processes` that train one model, `local_rank` on its host.

    | setting | precision | compiled |
    |---|---|---|
    | "cpu" | float32 | no, as it gained nothing |
    | "cuda" | bfloat16, or float16 on a GPU without bfloat16 | yes, for one process with CUDA graphs |
    | "cuda-fp32" | float32 throughout, for comparisons with the CPU | no |
    | "auto" | as "cuda" with a GPU, otherwise as "cpu" | |

    Communication between several processes would interrupt CUDA graphs. Raises ValueError as `device_type`, and for
    more processes than GPUs.
    """
    if device_type(setting) == "cpu":
        return CPU
    n_devices = torch.cuda.device_count()
    if local_rank >= n_devices:
        raise ValueError(
            f"expected a GPU for each process of a host, got {n_devices} for process {local_rank}; "
            "start fewer processes, or set training.hardware to cpu"
        )
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    if setting == "cuda-fp32":
        return Hardware(device, torch.float32, tf32=False, compile_mode=None)
    precision = torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return Hardware(device, precision, tf32=True, compile_mode="default" if n_processes > 1 else GRAPHS)


def cuda_graph(run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
    """Record the kernels of `run` as a CUDA graph; return what launches them again, and the tensor that they write."""
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        run()  # what is chosen or allocated once, such as a library's workspace, must not be recorded
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = run()
    return graph.replay, result


class OneGraph:
    """`pgd` of one model, its steps replayed as one graph.

    Small nets wait for Python, which launches every kernel of every step. A graph is launched once. On an H200 it takes
    a training step of `mnist-paper` from 77 to 10 ms, one of `cifar10-paper` from 35 to 20. The first time is that of
    torch.compile's graphs, one a call of the net. Shapes, ball and steps are constants of a graph. So a call that
    repeats those of the call before is recorded. Other calls, as while eps grows, run without a graph.
    """

    def __init__(self, record: Callable[[Callable[[], Tensor]], tuple[Callable[[], None], Tensor]]) -> None:
        self.record = record  # `cuda_graph`
        self.constants: tuple = ()
        self.recorded: tuple[Callable[[], None], Tensor, list[Tensor]] | None = None

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, start: Tensor, n_steps: int, step_size: float
    ) -> Tensor:
        """Return what `pgd` returns. The next call overwrites it."""

        def run(x: Tensor, y: Tensor, start: Tensor) -> Tensor:
            return pgd(model, x, y, threat, start=start, n_steps=n_steps, step_size=step_size)

        constants = (model, threat, n_steps, step_size, x.shape)
        if constants != self.constants:
            self.constants, self.recorded = constants, None
            return run(x, y, start)
        if self.recorded is None:
            inputs = [x.clone(), y.clone(), start.clone()]
            self.recorded = *self.record(lambda: run(*inputs)), inputs
        replay, x_adv, inputs = self.recorded
        for mine, given in zip(inputs, (x, y, start), strict=True):
            mine.copy_(given)
        replay()
        return x_adv


class OnDevice(nn.Module):
    """A wrapper that runs a model on `device` for callers with CPU tensors.

    Images are copied to the device. Logits and gradients are copied back.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.model, self.device = model.to(device), device

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of `x`, on the device of `x`."""
        return self.model(x.to(self.device)).to(x.device)


def for_evaluation(model: nn.Module, setting: str) -> nn.Module:
    """Return `model` as evaluation calls it: unchanged on the CPU, or wrapped for the GPU in float32.

    The attack's own arithmetic stays on the CPU. Copying a batch takes a tenth of the time of a ResNet-50's gradient,
    by estimate. PyTorch's default would round the factors of convolutions (TF32), and move logits by 1e-3. An example
    that just fools the model in one batch might then not fool it in another. Raises ValueError as `device_type`.
    """
    if device_type(setting) == "cpu":
        return model
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return OnDevice(model, torch.device("cuda", 0)).eval()
