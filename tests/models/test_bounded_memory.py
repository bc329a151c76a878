"""A file that asks for a huge network is refused before the memory is taken."""

import json
from pathlib import Path

import pytest
import torch

from dino_speech import build_encoder, load_encoder
from dino_speech.errors import InputError
from dino_speech.models.bounded_memory import bounded_memory


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.nn.Linear(10**7, 10**7),
        lambda: torch.nn.Embedding(10**9, 10**5),
        lambda: [torch.nn.Linear(300, 300) for _ in range(10**9)],
        lambda: torch.zeros((10**7, 10**7)),
        lambda: torch.nn.Conv1d(10**6, 10**6, 3),
    ],
)
def test_what_is_larger_is_refused_before_it_is_made(make) -> None:
    with pytest.raises(InputError, match="more than 1,000,000 numbers"), bounded_memory(1_000_000):
        make()


def test_what_fits_is_made_as_without() -> None:
    def make() -> torch.nn.Module:
        return build_encoder("ecapa_tdnn", embedding_dim=8, channels=8, seed=0)

    with bounded_memory(10_000_000):
        inside = make().state_dict()
    assert all(torch.equal(value, inside[name]) for name, value in make().state_dict().items())


def test_an_encoder_that_claims_to_be_huge(tmp_path: Path) -> None:
    folder = build_encoder("ecapa_tdnn", embedding_dim=8, channels=8, seed=0).save(tmp_path / "encoder", {})
    config = json.loads((folder / "encoder.json").read_text())
    config["backbone"]["channels"] = 10**6
    (folder / "encoder.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"encoder.json: asks for more than .* numbers"):
        load_encoder(folder)
