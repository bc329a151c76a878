"""Log-mel features of a batch of waves: ours, SpeechBrain's `Fbank` and torchaudio's, as peers call them.

    python tests/benchmarks/bench_features.py [--json] [--batch 24] [--seconds 3] [--threads 1]

Each gives 80 bands from windows of 25 ms every 10 ms: ours level- and mean-normalised and ready for the network;
SpeechBrain's with its sentence normalisation behind it, as its recipes have it; torchaudio's with the logarithm and a
mean over time, as sslsv has it. The figures of ours on other waves together with one of its own do not differ: see
tests/features/test_fbank.py.
"""

import argparse
from collections.abc import Callable

import torch
from interleaved import run_benchmark
from torch import Tensor

from dino_speech.features import LogMel


def build_cases(options: argparse.Namespace) -> dict[str, Callable[[], Tensor]]:
    """The ways to make the features of one batch."""
    from speechbrain.lobes.features import Fbank
    from speechbrain.processing.features import InputNormalization
    from torchaudio.transforms import MelSpectrogram

    generator = torch.Generator().manual_seed(0)
    waves = 0.1 * torch.randn(options.batch, round(16_000 * options.seconds), generator=generator)
    waves, lengths = waves.to(options.device), torch.ones(options.batch, device=options.device)
    ours, theirs = LogMel().to(options.device), Fbank(n_mels=80).to(options.device)
    normalise = InputNormalization(norm_type="sentence", std_norm=False)
    mel = MelSpectrogram(16_000, n_fft=512, win_length=400, hop_length=160, n_mels=80).to(options.device)

    def of_torchaudio() -> Tensor:
        frames = (mel(waves) + 1e-6).log()
        return frames - frames.mean(-1, keepdim=True)

    cases = {
        "ours": lambda: ours(waves)[0],
        "SpeechBrain": lambda: normalise(theirs(waves), lengths),
        "torchaudio": of_torchaudio,
    }
    return {name: torch.no_grad()(case) for name, case in cases.items()}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--device", default="cpu")


def main(arguments: list[str] | None = None) -> None:
    run_benchmark(__file__, __doc__, add_options, build_cases, arguments=arguments)


if __name__ == "__main__":
    main()
