"""Forward and backward of DINOLoss against the double loop over views that most public code has.

    python tests/benchmarks/bench_loss.py [--json] [--batch 8] [--num-prototypes 65536] [--device cuda]

Time is the median of interleaved rounds. Memory is what autograd keeps between forward and backward, in multiples of
the student's logits; beside it the peak of a process of its own (on a GPU, of its part of the GPU's memory).
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict

import torch
from interleaved import Timing, time_interleaved
from memory import MEMORY_OF, peak_memories, print_memory
from torch import Tensor

from dino_speech.dino.loss import DINOLoss

NUM_LONG, NUM_SHORT, TEMPERATURE = 2, 4, 0.1


def loop_loss(student_logits: Tensor, targets: Tensor) -> Tensor:
    """Written from Algorithm 1 of arXiv 2104.14294: a log-softmax for each pair of different views."""
    total, num_pairs = student_logits.new_zeros(()), 0
    for number, target in enumerate(targets):
        for other, logits in enumerate(student_logits):
            if number != other:
                total = total - (target * torch.log_softmax(logits / TEMPERATURE, dim=-1)).sum(-1).mean()
                num_pairs += 1
    return total / num_pairs


def one_softmax_per_view_loss(student_logits: Tensor, targets: Tensor) -> Tensor:
    """The same loop, with the log-softmax of each view taken out of it."""
    log_student = [torch.log_softmax(logits / TEMPERATURE, dim=-1) for logits in student_logits]
    terms = [
        -(target * log_probability).sum(-1).mean()
        for number, target in enumerate(targets)
        for other, log_probability in enumerate(log_student)
        if number != other
    ]
    return torch.stack(terms).mean()


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ours": DINOLoss(num_long=NUM_LONG, student_temperature=TEMPERATURE),
    "loop": loop_loss,
    "loop_one_softmax_per_view": one_softmax_per_view_loss,
}


def kept_ratio(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, targets: Tensor) -> float:
    """Bytes that autograd keeps for the backward pass, each storage counted once, over those of the logits."""
    kept: dict[int, Tensor] = {}  # the tensors themselves: a freed storage's address could come again

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss(logits.requires_grad_(), targets)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) / logits.nbytes


def peak_ratio(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, targets: Tensor) -> float | None:
    """Peak of GPU memory during forward and backward, above the inputs, over the logits' bytes."""
    if not logits.is_cuda:
        return None
    logits = logits.detach().requires_grad_()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    loss(logits, targets).backward()
    return (torch.cuda.max_memory_allocated() - before) / logits.nbytes


Run = Callable[[], object]


def build_cases(batch: int, num_prototypes: int, device: str) -> tuple[dict[str, Run], dict, dict, tuple]:
    """Forward and backward of each loss by name; where values and gradients are left; the losses' inputs."""
    generator = torch.Generator().manual_seed(0)
    student = torch.rand(NUM_LONG + NUM_SHORT, batch, num_prototypes, generator=generator) * 0.6 - 0.3
    teacher = torch.rand(NUM_LONG, batch, num_prototypes, generator=generator) * 0.6 - 0.3
    student, targets = student.to(device), torch.softmax(teacher.to(device) / 0.04, dim=-1)
    values: dict[str, Tensor] = {}
    gradients: dict[str, Tensor] = {}

    def run(name: str) -> None:
        logits = student.detach().requires_grad_()
        values[name] = LOSSES[name](logits, targets)
        (gradients[name],) = torch.autograd.grad(values[name], logits)

    return {name: lambda name=name: run(name) for name in LOSSES}, values, gradients, (student, targets)


def compare(batch: int, num_prototypes: int, *, rounds: int, device: str = "cpu") -> dict[str, object]:
    """All figures but the memory of whole processes, as plain data."""
    cases, values, gradients, (student, targets) = build_cases(batch, num_prototypes, device)
    timings = time_interleaved(cases, rounds=rounds)
    relative = (gradients["ours"] - gradients["loop"]).abs().max() / gradients["loop"].abs().max()
    return {
        "setting": {
            **{"batch": batch, "num_prototypes": num_prototypes, "num_long": NUM_LONG, "num_short": NUM_SHORT},
            **{"rounds": rounds, "device": device, "threads": torch.get_num_threads(), "torch": torch.__version__},
        },
        "loss_difference": abs((values["ours"] - values["loop"]).item()),
        "gradient_difference": relative.item(),
        "time_ms": {name: asdict(timing) for name, timing in timings.items()},
        "kept_for_backward": {name: kept_ratio(loss, student.detach(), targets) for name, loss in LOSSES.items()},
        "peak_on_gpu": {name: peak_ratio(loss, student, targets) for name, loss in LOSSES.items()},
        "speedup": timings["loop"].median_ms / timings["ours"].median_ms,
        "speedup_of_best": timings["loop"].best_ms / timings["ours"].best_ms,
    }


def main(arguments: list[str] | None = None) -> None:
    """Parse, compare, print."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--num-prototypes", type=int, default=65_536)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--no-memory", action="store_true", help="do not measure the memory of whole processes")
    parser.add_argument(MEMORY_OF, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.memory_of:
        cases, *_ = build_cases(options.batch, options.num_prototypes, options.device)
        print_memory(cases[options.memory_of], options.device)
        return
    found = compare(options.batch, options.num_prototypes, rounds=options.rounds, device=options.device)
    found["memory_mib"] = {} if options.no_memory else peak_memories(__file__, LOSSES, words)
    for name, timing in found["time_ms"].items():
        print(f"{name:27s} {Timing(**timing)}  kept {found['kept_for_backward'][name]:.2f} x logits")
        if name in found["memory_mib"]:
            print(f"{'':27s} peak {found['memory_mib'][name]['peak_mib']:.0f} MiB")
    print(f"ours is {found['speedup']:.2f} x as fast as the loop (best rounds: {found['speedup_of_best']:.2f} x)")
    print(
        f"difference: loss {found['loss_difference']:.1e}, gradients {found['gradient_difference']:.1e} of the largest"
    )
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
