"""On which device a job is trained, and with what arithmetic: the one place where that is decided.

No GPU was at hand when this was written: everything but the CPU is untested on a real one. Its mixed
precision and loss scaling are tested on the CPU, which has the same operations.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Hardware:
    """A device and how it computes. `precision` is that of convolutions and matrix products; weights are float32."""

    device: torch.device
    precision: torch.dtype
    tf32: bool  # whether float32 products are rounded to 10 bits on the way, where a GPU can
    compile_mode: str | None  # of torch.compile; "reduce-overhead" replays CUDA graphs

    def prepare(self, model: nn.Module) -> nn.Module:
        """Return `model` on the device, channels last, compiled in place where that is chosen."""
        if self.device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.tf32
            torch.backends.cudnn.benchmark = self.precision != torch.float32  # every batch has the same shape
        model = model.to(self.device).to(memory_format=torch.channels_last)
        if self.compile_mode is not None:
            model.compile(mode=self.compile_mode)
        return model

    def images(self, x: Tensor) -> Tensor:
        """Return `x` [B, C, H, W] on the device, channels last."""
        return x.to(self.device, non_blocking=True).contiguous(memory_format=torch.channels_last)

    def autocast(self) -> AbstractContextManager:
        """Return the context of a training step's forward pass. Parameters and their gradients stay float32."""
        if self.precision == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.precision)

    def autocast_attack(self) -> AbstractContextManager:
        """Return the context of the attack. The input and its gradient are float32.

        float16 is not used: gradients of a confident model underflow in it, and an attack has no scaler.
        """
        return nullcontext() if self.precision == torch.float16 else self.autocast()

    def scaler(self) -> torch.amp.GradScaler:
        """Return what scales the loss: by a factor in float16, whose small gradients are 0, else not at all."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == torch.float16)


CPU = Hardware(torch.device("cpu"), torch.float32, tf32=False, compile_mode=None)
SETTINGS = ("auto", "cpu", "cuda", "cuda-fp32")


def device_type(setting: str) -> str:
    """Return "cuda" or "cpu", as `setting` asks for. ValueError for another `setting`, or without a GPU for "cuda"."""
    if setting not in SETTINGS:
        raise ValueError(f"expected hardware to be one of {', '.join(SETTINGS)}, got {setting!r}")
    there = torch.cuda.is_available()
    if setting.startswith("cuda") and not there:
        raise ValueError(f"expected a GPU for hardware {setting!r}, got none; set training.hardware to auto or cpu")
    return "cuda" if there and setting != "cpu" else "cpu"


def choose(setting: str, *, local_rank: int, n_processes: int) -> Hardware:
    """Return the hardware of process `local_rank` of its host, one of the `n_processes` that train one model.

    "auto" is "cuda" where there is a GPU, else "cpu". "cuda" is bfloat16 where the GPU has it, else float16,
    compiled; in one process as CUDA graphs, which the communication of several would break up. "cuda-fp32"
    is float32 throughout, not compiled: for comparisons with the CPU. "cpu" is float32, not compiled, which
    gained nothing there. Untested on a GPU. Raises ValueError as `device_type`, and for more processes than GPUs.
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


class Elsewhere(nn.Module):
    """A model on `device` for code whose tensors are on the CPU: images go there, logits and gradients come back."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.model, self.device = model.to(device), device

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of `x` where `x` is."""
        return self.model(x.to(self.device)).to(x.device)


def answering(model: nn.Module, setting: str) -> nn.Module:
    """Return `model` as evaluation asks it: itself on the CPU, else run on the GPU, in float32 throughout.

    An attack's own work stays on the CPU; moving a batch of images takes a tenth of the time of a ResNet-50's
    gradient, by estimate. ValueError as `device_type`. Untested on a GPU.
    """
    return model if device_type(setting) == "cpu" else Elsewhere(model, torch.device("cuda", 0)).eval()
