"""What a large corpus takes: `python plan.py --utterances-per-s 1000 [--hours 1e6] [--devices 8 64 512]`.

Sizes of networks, crops and bytes are computed from the library's own parts; throughput, links and latency are inputs,
and a plan is worth what they are worth. Measure the throughput on one device of yours: it is `utt/s` in the log of a
run. docs/pages/clusters.md explains each row.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from dino_speech import MultiCrop, build_encoder
from dino_speech.dino.head import DINOHead

PCM_BYTES_PER_S = 32_000  # 16 bits at 16 kHz
BASE_BATCH, BASE_LR, BASE_MOMENTUM, BASE_CENTER = 128, 2e-3, 0.996, 0.9  # hparams/gpu.yaml
MANIFEST_BYTES = 600  # a row of three columns (565) and its place in an epoch's order (40), measured on 200,000 rows
STATE_BYTES = 16  # per parameter: student, teacher and AdamW's two moments in float32


@dataclass(frozen=True)
class Network:
    """What is counted once for one encoder and head.

    Attributes:
        parameters: trained ones: what is averaged over the devices in each step, in float32.
        last_layer: of these, the prototypes.
        norm_calls: calls of BatchNorm layers by the student in a step; SyncBatchNorm makes of each two exchanges.
        flops: floating-point operations per utterance: the student's forward and backward pass on all views, the
            teacher's on the long ones.
        backward_share: of these, the backward pass, beside which gradients travel.
    """

    parameters: int
    last_layer: int
    norm_calls: int
    flops: float
    backward_share: float


def measure_network(channels: int, num_prototypes: int, crops: MultiCrop) -> Network:
    """Build encoder and head as hparams/gpu.yaml does, and count."""
    encoder = build_encoder(
        "ecapa_tdnn", embedding_dim=192, channels=channels, mean_norm="none", statistics_shortcut=True, seed=0
    )
    head = DINOHead(encoder.embedding_dim, num_prototypes=num_prototypes, batch_norm=True)
    lengths = [(crops.num_long, crops.long_samples), (crops.num_short, crops.short_samples)]
    of_head = _flops(head, torch.zeros(1, encoder.embedding_dim))
    of_views = [num * (_flops(encoder, torch.zeros(1, samples)) + of_head) for num, samples in lengths]
    of_all, of_teacher = sum(of_views), of_views[0]
    return Network(
        parameters=_count(encoder) + _count(head),
        last_layer=_count(head.last_layer),
        norm_calls=sum(num > 0 for num, _ in lengths) * _norms(encoder) + _norms(head),
        flops=3 * of_all + of_teacher,  # a backward pass takes twice its forward pass
        backward_share=2 * of_all / (3 * of_all + of_teacher),
    )


def _flops(module: nn.Module, values: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module.eval()(values)
    return counter.get_total_flops()


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def _norms(module: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm1d) for part in module.modules())


def crop_span_s(crops: MultiCrop, utterance_s: float, num: int = 2000) -> float:
    """Mean seconds between the first and the last sample that the crops of an utterance use: what is decoded."""
    generator, num_samples = torch.Generator().manual_seed(0), round(16_000 * utterance_s)
    plans = [crops.plan(num_samples, generator) for _ in range(num)]
    return sum(plan.stop - plan.start for plan in plans) / num / 16_000


def storage_tb(hours: float, flac_fraction: float, opus_kbit_s: float) -> dict[str, float]:
    """Terabytes (1e12) of a corpus as 16-bit wav, FLAC and Opus."""
    seconds = 3600 * hours
    wav = seconds * PCM_BYTES_PER_S / 1e12
    return {"wav": wav, "flac": wav * flac_fraction, "opus": seconds * opus_kbit_s * 1000 / 8 / 1e12}


def rates(batch: int) -> dict[str, float]:
    """hparams/gpu.yaml's rates carried to another batch size, `k` times as large.

    Source: lr times sqrt(k) for Adam, arXiv 2205.10287; an average's momentum to the power k, arXiv 2307.13813.
    """
    k = batch / BASE_BATCH
    return {"lr": BASE_LR * k**0.5, "teacher_momentum": BASE_MOMENTUM**k, "center_momentum": BASE_CENTER**k}


def exchange(network: Network, num_devices: int, options: argparse.Namespace) -> dict[str, float]:
    """Bytes that a device and a node send per step, and the seconds that takes, in rings within and between nodes."""
    per_node = min(num_devices, options.devices_per_node)
    num_nodes = math.ceil(num_devices / per_node)
    total = 4 * (network.parameters + options.num_prototypes + 1)  # gradients and center
    within, between = (2 * (n - 1) / n * total for n in (per_node, num_nodes))
    seconds = within / (1e9 * options.within_gb_s) + between / (1e9 * options.between_gb_s)
    waits = 2 * network.norm_calls * 1e-6 * options.latency_us * math.ceil(math.log2(max(2, num_devices)))
    return {"within_bytes": within, "between_bytes": between, "seconds": seconds, "sync_batchnorm_s": waits}


def plan_row(network: Network, num_devices: int, span_s: float, options: argparse.Namespace) -> dict[str, Any]:
    """What a run on so many devices takes."""
    batch = num_devices * options.batch_per_device
    compute_s = options.batch_per_device / options.utterances_per_s
    traffic = exchange(network, num_devices, options)
    beside_s = max(0.0, traffic["seconds"] - network.backward_share * compute_s)
    extra_s = {"beside": beside_s, "after": traffic["seconds"], "synced": beside_s + traffic["sync_batchnorm_s"]}
    share = {name: 1.0 if num_devices == 1 else compute_s / (compute_s + seconds) for name, seconds in extra_s.items()}
    efficiency = share["synced" if options.sync_batchnorm else "beside"]
    speed = efficiency * num_devices * options.utterances_per_s
    per_node = speed / math.ceil(num_devices / options.devices_per_node)
    read_bytes_s = PCM_BYTES_PER_S * options.flac_fraction
    num_utterances = 3600 * options.hours / options.utterance_s
    return {
        "devices": num_devices,
        "batch": batch,
        **rates(batch),
        "steps_per_pass": num_utterances / batch,
        "step_ms": 1e3 * compute_s / efficiency,
        "sent_by_node_mb": traffic["between_bytes"] / 1e6,
        "exchange_ms": 1e3 * traffic["seconds"],
        "efficiency": share["beside"],
        "efficiency_no_overlap": share["after"],
        "efficiency_synced": share["synced"],
        "hours_per_pass": num_utterances / speed / 3600,
        "read_by_node_mb_s": per_node * span_s * read_bytes_s / 1e6,
        "shards_by_node_mb_s": per_node * options.utterance_s * read_bytes_s / 1e6,
        "reading_cores": per_node * options.read_ms / 1e3,
    }


def make_plan(options: argparse.Namespace) -> dict[str, Any]:
    """Everything, as plain data."""
    crops = MultiCrop(num_long=2, long_s=options.long_s, num_short=4, short_s=options.short_s)
    network = measure_network(options.channels, options.num_prototypes, crops)
    span_s, num_utterances = crop_span_s(crops, options.utterance_s), 3600 * options.hours / options.utterance_s
    return {
        "assumed": vars(options),
        "storage_tb": storage_tb(options.hours, options.flac_fraction, options.opus_kbit_s),
        "num_utterances": num_utterances,
        "manifest_gb": MANIFEST_BYTES * num_utterances / 1e9,
        "network": {**vars(network), "gradient_mb": 4 * network.parameters / 1e6},
        "state_mb": STATE_BYTES * network.parameters / 1e6,
        "tflop_per_s": network.flops * options.utterances_per_s / 1e12,
        "crop_span_s": span_s,
        "rows": [plan_row(network, num, span_s, options) for num in options.devices],
    }


SHOWN = {
    "devices": "{:d}",
    "batch": "{:d}",
    "lr": "{:.2g}",
    "teacher_momentum": "{:.3f}",
    "center_momentum": "{:.2f}",
    "steps_per_pass": "{:,.0f}",
    "step_ms": "{:.0f}",
    "sent_by_node_mb": "{:.0f}",
    "exchange_ms": "{:.1f}",
    "efficiency": "{:.0%}",
    "efficiency_no_overlap": "{:.0%}",
    "efficiency_synced": "{:.0%}",
    "hours_per_pass": "{:.1f}",
    "read_by_node_mb_s": "{:.0f}",
    "shards_by_node_mb_s": "{:.0f}",
    "reading_cores": "{:.0f}",
}


def show(plan: dict[str, Any]) -> list[str]:
    """As Markdown, a column per number of devices."""
    network, gradients, state = plan["network"], plan["network"]["gradient_mb"], plan["state_mb"]
    parameters, last, work = network["parameters"] / 1e6, network["last_layer"] / 1e6, network["flops"] / 1e9
    sizes = ", ".join(f"{name} {size:.1f} TB" for name, size in plan["storage_tb"].items())
    rate, span_s = plan["tflop_per_s"], plan["crop_span_s"]
    lines = [
        f"{plan['num_utterances']:,.0f} utterances: {sizes}; manifest {plan['manifest_gb']:.0f} GB in each process",
        f"{parameters:.1f} M parameters ({last:.1f} M prototypes), gradients {gradients:.0f} MB, state {state:.0f} MB",
        f"{work:.0f} GFLOP per utterance: {rate:.3g} TFLOP/s per device; {span_s:.2f} s of each are decoded",
        "",
        "| | " + " | ".join(SHOWN["devices"].format(row["devices"]) for row in plan["rows"]) + " |",
        "|---|" + "---|" * len(plan["rows"]),
    ]
    for name, form in list(SHOWN.items())[1:]:
        lines.append(f"| `{name}` | " + " | ".join(form.format(row[name]) for row in plan["rows"]) + " |")
    return lines


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances-per-s", type=float, required=True, help="of one device alone, measured")
    parser.add_argument("--hours", type=float, default=1e6, help="of speech")
    parser.add_argument("--utterance-s", type=float, default=8.0, help="mean length of an utterance")
    parser.add_argument("--devices", type=int, nargs="+", default=[8, 64, 512])
    parser.add_argument("--batch-per-device", type=int, default=64)
    parser.add_argument("--channels", type=int, default=512, help="of ECAPA-TDNN")
    parser.add_argument("--num-prototypes", type=int, default=65_536)
    parser.add_argument("--long-s", type=float, default=3.0)
    parser.add_argument("--short-s", type=float, default=1.5)
    parser.add_argument("--flac-fraction", type=float, default=0.55, help="FLAC's bytes over those of 16-bit samples")
    parser.add_argument("--opus-kbit-s", type=float, default=24.0)
    parser.add_argument(
        "--read-ms", type=float, default=4.7, help="of one core, to read and decode an utterance's crops"
    )
    parser.add_argument("--devices-per-node", type=int, default=8)
    parser.add_argument("--within-gb-s", type=float, default=200.0, help="GB/s per device between those of a node")
    parser.add_argument(
        "--between-gb-s", type=float, default=12.5, help="GB/s per node between nodes (12.5: 100 Gbit/s)"
    )
    parser.add_argument(
        "--latency-us", type=float, default=15.0, help="of a tiny exchange, per doubling of the devices"
    )
    parser.add_argument("--sync-batchnorm", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    plan = make_plan(options)
    print("\n".join(show(plan)))
    if options.json:
        print(json.dumps(plan))


if __name__ == "__main__":
    main()
