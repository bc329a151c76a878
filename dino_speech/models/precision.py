"""Which number format the networks compute in, chosen by what the device does fast."""

import torch

from dino_speech.errors import InputError

PRECISIONS = ("auto", "bf16", "fp16", "fp32")


def choose_precision(precision: str, device: torch.device) -> str:
    """Turn "auto" into "bf16", "fp16" or "fp32"; InputError: an unknown name, or fp16 on a CPU.

    "auto" is bf16 where the device has it in hardware (CPUs with AMX or AVX512-BF16, Arm with BF16, GPUs from Ampere
    on), else fp16 with loss scaling on a GPU and fp32 on a CPU. Features and the loss are float32 always.

    Example:
        >>> choose_precision("fp32", torch.device("cpu"))
        'fp32'
    """
    if precision not in PRECISIONS:
        raise InputError(f"precision = {precision!r}: expected one of {', '.join(PRECISIONS)}")
    if precision == "fp16" and device.type == "cpu":
        raise InputError("precision = 'fp16' needs a GPU; on a CPU take 'auto', 'bf16' or 'fp32'")
    if precision != "auto":
        return precision
    if device.type == "cpu":
        return "bf16" if cpu_has_bf16() else "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The context in which networks compute in `precision`, as `choose_precision` takes and refuses it."""
    chosen = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": None}[choose_precision(precision, device)]
    return torch.autocast(device.type, dtype=chosen, enabled=chosen is not None)


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware; elsewhere oneDNN emulates it, slower than float32."""
    if not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return False
    # oneDNN says yes to any AVX-512 CPU; the two flags name the instructions themselves. Arm reports them truly.
    flags = torch.backends.cpu.get_cpu_capability()
    if "AVX" not in flags:
        return flags not in ("DEFAULT", "NO AVX")
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
