"""Choose the device and the arithmetic of a model.

No other module decides this. All code for GPUs is untested on a real GPU, because none was available. Mixed precision
and loss scaling are tested on the CPU, which has the same operations.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Hardware:
    """A device and its arithmetic.

    `precision` is the type of convolutions and matrix products. Weights are float32.
    """

    device: torch.device
    precision: torch.dtype
    tf32: bool  # whether a GPU rounds the factors of float32 products to 10 mantissa bits
    compile_mode: str | None  # of torch.compile; "reduce-overhead" uses CUDA graphs; None does not compile

    def prepare(self, model: nn.Module) -> nn.Module:
        """Return `model` on the device, in channels-last layout, compiled in place unless `compile_mode` is None.

        On a GPU this also sets PyTorch's global switches for TF32 and for the cuDNN benchmark.
        """
        if self.device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.tf32
            torch.backends.cudnn.benchmark = self.precision != torch.float32  # every batch has the same shape
        model = model.to(self.device).to(memory_format=torch.channels_last)
        if self.compile_mode is not None:
            model.compile(mode=self.compile_mode)
        return model

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

    Communication between several processes would interrupt CUDA graphs. Untested on a GPU. Raises ValueError as
    `device_type`, and for more processes than GPUs.
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
    return Hardware(device, precision, tf32=True, compile_mode="default" if n_processes > 1 else "reduce-overhead")


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
    by estimate. Raises ValueError as `device_type`. Untested on a GPU.
    """
    return model if device_type(setting) == "cpu" else OnDevice(model, torch.device("cuda", 0)).eval()
