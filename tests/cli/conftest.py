"""What the tests of the command line share."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "YourSpeech" / "dino" / "hparams" / "cpu.yaml"


@pytest.fixture
def tiny_recipe(voices_folder: Path) -> Iterator[Callable[[Path], list[str]]]:
    """`tiny_recipe(output)` gives words for `pretrain` that take a second or two."""

    def words(output: Path) -> list[str]:
        options = {
            "train_manifest": voices_folder / "manifest.csv",
            "output_folder": output,
            "monitor": "null",
            "augment": "null",
            "crops.long_s": 0.6,
            "crops.short_s": 0.3,
            "encoder.channels": 16,
            "encoder.attention_channels": 8,
            "encoder.se_channels": 8,
            "encoder.embedding_dim": 8,
            "trainer.head.num_prototypes": 16,
            "trainer.head.hidden_dim": 8,
            "trainer.schedule.batch_size": 4,
            "trainer.schedule.warmup": 1,
            "trainer.run.num_workers": 0,
            "trainer.run.log_every": 1,
            "trainer.run.precision": "fp32",
        }
        return [str(RECIPE), *(f"--{key}={value}" for key, value in options.items())]

    before = torch.get_num_threads()
    torch.set_num_threads(1)  # a network this small only waits for a second thread
    yield words
    torch.set_num_threads(before)
