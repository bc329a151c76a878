"""What an encoder costs: parameters, multiply-adds, time and memory, on the machine at hand.

Multiply-adds are those of matrix products, convolutions and attention, from waves to embedding, as PyTorch's counter
finds them (one multiply-add is two of its operations); the mel filters are a matrix product, too. The Fourier transform
of the features, normalisations and activations are not counted. Time and memory are of this machine, under whatever
else it is doing.
"""

import os
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from dino_speech.audio.io import seconds_to_samples
from dino_speech.errors import InputError
from dino_speech.models.evaluation_mode import evaluating
from dino_speech.plain_data import PlainData
from dino_speech.provenance import provenance


@dataclass(frozen=True)
class EfficiencyReport(PlainData):
    """What `measure_efficiency` found.

    Args:
        num_parameters: of the network and its features; `size_mb`: millions of bytes of the weights on disk.
        macs_per_s: multiply-adds for a second of speech (of `seconds`: attention grows faster than the length).
        real_time_factor: seconds of computing for a second of speech, the median of `num_rounds` rounds that are timed,
            after one that is not; below 1 is faster than speech. `real_time_factor_range`: the fastest and the slowest.
        peak_memory_mb: millions of bytes that one pass holds at most, beyond weights and waves.
        embedding_dim: numbers per utterance.
        seconds: length of each wave, `batch_size` at a time, with `num_threads` of PyTorch on the CPU.
        device: that it ran on.
    """

    num_parameters: int
    macs_per_s: float
    real_time_factor: float
    real_time_factor_range: tuple[float, float]
    peak_memory_mb: float
    size_mb: float
    embedding_dim: int
    seconds: float
    batch_size: int
    num_threads: int
    num_rounds: int
    device: str
    provenance: dict[str, Any] = field(repr=False)

    def row(self) -> dict[str, Any]:
        """A row of a table of several encoders."""
        return {
            "parameters (million)": self.num_parameters / 1e6,
            "multiply-adds per s (million)": self.macs_per_s / 1e6,
            "real-time factor": self.real_time_factor,
            "peak memory MB": self.peak_memory_mb,
            "size MB": self.size_mb,
            "dimensions": self.embedding_dim,
        }


def measure_efficiency(
    model: Any, *, seconds: float = 10.0, batch_size: int = 1, num_rounds: int = 5, num_threads: int | None = None
) -> EfficiencyReport:
    """Measure an encoder, or a fine-tuned system with its head, on the device that it is on.

    Args:
        model: a `SpeechEncoder`, a `FineTunedSystem` or an `AudioTextSystem` (with an empty text).
        seconds: length of the waves (of noise; what is computed does not depend on what is said).
        batch_size: waves at a time.
        num_rounds: timed passes.
        num_threads: of PyTorch on the CPU; None: as it is set.

    Raises:
        InputError: a number is out of its range, or the wave is too short for the encoder.
    """
    encoder = getattr(model, "encoder", model)
    network = _network(model)
    num_samples = seconds_to_samples(seconds, encoder.config.sample_rate)
    if num_samples < encoder.min_samples or batch_size < 1 or num_rounds < 1:
        raise InputError(
            f"seconds={seconds:g}, batch_size={batch_size}, num_rounds={num_rounds}: expected at least"
            f" {encoder.min_samples / encoder.config.sample_rate:g} s, 1 and 1"
        )
    generator = torch.Generator().manual_seed(0)
    waves = 0.05 * torch.randn(batch_size, num_samples, generator=generator).to(encoder.device)
    before = torch.get_num_threads()
    torch.set_num_threads(before if num_threads is None else num_threads)
    try:
        with evaluating(network), torch.inference_mode():
            macs = _count_macs(network, waves)
            times = _time(network, waves, num_rounds)
            peak = _peak_memory(network, waves)
        used = torch.get_num_threads()
    finally:
        torch.set_num_threads(before)
    factors = [spent / (seconds * batch_size) for spent in times]
    weights = network.state_dict().values()
    return EfficiencyReport(
        num_parameters=sum(parameter.numel() for parameter in network.parameters()),
        macs_per_s=macs / (seconds * batch_size),
        real_time_factor=statistics.median(factors),
        real_time_factor_range=(min(factors), max(factors)),
        peak_memory_mb=peak / 1e6,
        size_mb=sum(weight.numel() * weight.element_size() for weight in weights) / 1e6,
        embedding_dim=encoder.embedding_dim,
        seconds=seconds,
        batch_size=batch_size,
        num_threads=used,
        num_rounds=num_rounds,
        device=torch.cuda.get_device_name(encoder.device) if encoder.device.type == "cuda" else str(encoder.device),
        provenance=provenance(),
    )


def _network(model: Any) -> nn.Module:
    """Waves to what the model says."""
    if isinstance(found := getattr(model, "network", None), nn.Module):
        return found
    return nn.Sequential(model.encoder, model.head) if hasattr(model, "head") else nn.Sequential(model)


def _count_macs(network: Callable[[Tensor], Tensor], waves: Tensor) -> float:
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # The counter does not know the CPU's fused attention, but the matrix products that it stands for; and it asks
    # parametrised weights for their gradient's place, which they do not have in inference mode.
    with ExitStack() as stack:
        for context in (torch.inference_mode(False), torch.no_grad(), sdpa_kernel(SDPBackend.MATH)):
            stack.enter_context(context)
        counter = stack.enter_context(FlopCounterMode(display=False))
        network(waves)
    return counter.get_total_flops() / 2


def _time(network: Callable[[Tensor], Tensor], waves: Tensor, num_rounds: int) -> list[float]:
    """Seconds of each round, after one that warms up."""
    times = []
    for _ in range(num_rounds + 1):
        _wait(waves.device)
        begin = time.perf_counter()
        network(waves)
        _wait(waves.device)
        times.append(time.perf_counter() - begin)
    return times[1:]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak_memory(network: Callable[[Tensor], Tensor], waves: Tensor) -> int:
    """Bytes that PyTorch's allocator has given out at most during a pass, beyond what it had before."""
    if waves.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(waves.device)
        held = torch.cuda.memory_allocated(waves.device)
        network(waves)
        return torch.cuda.max_memory_allocated(waves.device) - held
    from torch.profiler import ProfilerActivity, profile

    # Without a GPU the profiler of a CUDA build prints a line of ERROR, which is none.
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")
    # Not the process's memory: that depends on what ran before, and on when the allocator gives pages back.
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        network(waves)
    assert profiler.profiler is not None
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(accumulate(changes, initial=0))
