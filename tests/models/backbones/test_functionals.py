"""Sets of acoustic functionals as encoders."""

import sys

import pytest
import torch

from dino_speech import build_encoder, load_encoder
from dino_speech.errors import InputError
from dino_speech.models.backbones.functionals import SETS, Functionals


def test_the_extra_is_named_where_it_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opensmile", None)
    for name, (_, dim) in SETS.items():
        encoder = load_encoder(name)
        assert encoder.embedding_dim == dim == build_encoder(name).embedding_dim
        with pytest.raises(InputError, match=r"needs opensmile .*pip install 'dino-speech\[descriptors\]' .*research"):
            encoder(torch.zeros(1, 16_000))
    with pytest.raises(InputError, match="expected one of"):
        Functionals(1, 87)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_they_are_opensmiles_own(name: str, tone) -> None:
    opensmile = pytest.importorskip("opensmile", reason="needs the extra dino-speech[descriptors]")
    smile = opensmile.Smile(feature_set=opensmile.FeatureSet[SETS[name][0]])
    waves = torch.stack(
        [torch.from_numpy(tone(1.0)).float(), torch.nn.functional.pad(torch.from_numpy(tone(0.5)).float(), (0, 8000))]
    )
    found = load_encoder(name)(waves, torch.tensor([16_000, 8_000]))
    for row, wave, length in zip(found, waves, (16_000, 8_000), strict=True):
        expected = smile.process_signal(wave[:length].numpy(), 16_000).to_numpy()[0]
        torch.testing.assert_close(row, torch.from_numpy(expected.copy()).float().nan_to_num())
