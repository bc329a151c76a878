"""Several encoders as one: the cosine is the mean of theirs, on disk and in batches too."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dino_speech import average_encoders, build_encoder, join_encoders, list_encoders, load_encoder
from dino_speech.cli.main import main
from dino_speech.errors import InputError


@pytest.fixture
def parts():
    small = {"channels": 8, "attention_channels": 8, "se_channels": 8}
    first = build_encoder("ecapa_tdnn", embedding_dim=6, mean_norm="utterance", seed=1, **small).eval()
    second = build_encoder("xvector", embedding_dim=4, channels=[8, 8, 8, 8, 12], seed=2).eval()
    first.fit_whitening(torch.randn(40, 6, generator=torch.Generator().manual_seed(0)))
    return [first, second]


def test_the_cosine_is_the_mean_of_the_parts_cosines(parts):
    waves = torch.randn(3, 16_000)
    joined = join_encoders(parts)(waves)
    expected = sum(F.cosine_similarity(part(waves)[:1], part(waves)) for part in parts) / 2
    torch.testing.assert_close(F.cosine_similarity(joined[:1], joined), expected)
    assert joined.shape == (3, 10)


def test_an_embedding_does_not_depend_on_its_batch(parts):
    joined, waves = join_encoders(parts), torch.randn(2, 16_000)
    batched = joined(waves, torch.tensor([16_000, 9_000]))
    torch.testing.assert_close(batched[1:], joined(waves[1:, :9_000]), atol=1e-5, rtol=1e-4)


def test_it_is_kept_like_any_encoder(parts, tmp_path):
    joined, waves = join_encoders(parts), torch.randn(2, 16_000)
    joined.save(tmp_path / "joined")
    torch.testing.assert_close(load_encoder(tmp_path / "joined")(waves), joined(waves), atol=0, rtol=0)
    untrained = load_encoder(f"untrained:{tmp_path / 'joined'}")
    assert untrained(waves).shape == (2, 10)
    assert not torch.equal(untrained(waves), joined(waves))


def test_each_part_says_what_its_layers_and_its_last_affine_layers_are(parts):
    joined = join_encoders(parts)
    layers = joined.embed_layers(torch.randn(1, 16_000))
    assert {name.split(".")[0] for name in layers} == {"part1", "part2", "embedding"}
    names = [name for level in joined.depth_modules for name in level] + list(joined.affine_modules)
    assert all(joined.get_submodule(name) for name in names)
    assert len(joined.depth_modules) == max(len(part.depth_modules) for part in parts)


def test_what_cannot_be_joined_is_refused(parts):
    with pytest.raises(InputError, match="expected two or more"):
        join_encoders(parts[:1])
    assert "joined" not in list_encoders()


def test_the_command_whitens_what_does_not_whiten_yet(parts, voices_folder, tmp_path, capsys):
    sources = [str(part.save(tmp_path / name)) for part, name in zip(parts, ("first", "second"), strict=True)]
    words = ["join", "--encoder", *sources, "--output", str(tmp_path / "joined"), "--manifest"]
    assert main([*words, str(voices_folder / "manifest.csv"), "--shrinkage", "0.01", "--device", "cpu"]) == 0
    assert "2 encoders, 10 dimensions" in capsys.readouterr().out
    joined = load_encoder(tmp_path / "joined")
    first, second = joined.backbone.parts
    torch.testing.assert_close(first.whitening.projection, parts[0].whitening.projection)
    wavs = [str(path) for path in sorted(voices_folder.glob("spk*/*.wav"))]
    before = np.linalg.eigvalsh(np.cov(parts[1].embed_files(wavs).embeddings.T))
    after = np.linalg.eigvalsh(np.cov(second.embed_files(wavs).embeddings.T))
    assert after[-1] / after[0] < 0.1 * before[-1] / before[0], "16 recordings alike are evened out but for shrinkage"
    assert after[-1] == pytest.approx(1, abs=0.1)


def test_an_average_has_the_mean_weights_and_statistics_and_the_last_count(parts, tmp_path, capsys):
    small = {"channels": 8, "attention_channels": 8, "se_channels": 8}
    encoders = [build_encoder("ecapa_tdnn", embedding_dim=6, seed=seed, **small) for seed in range(3)]
    for number, encoder in enumerate(encoders):
        encoder.train()
        for _ in range(number + 1):
            encoder(torch.randn(4, 8_000))
    states = [encoder.state_dict() for encoder in encoders]
    averaged = average_encoders(encoders)
    assert not averaged.training
    for name, value in averaged.state_dict().items():
        expected = sum(state[name] for state in states) / 3 if value.is_floating_point() else states[-1][name]
        torch.testing.assert_close(value, expected, msg=name)
    assert any(name.endswith("running_var") for name in states[0])
    sources = [str(encoder.save(tmp_path / str(number))) for number, encoder in enumerate(encoders)]
    assert main(["average", "--encoder", *sources, "--output", str(tmp_path / "mean"), "--device", "cpu"]) == 0
    assert "the mean of 3 encoders" in capsys.readouterr().out
    waves = torch.randn(2, 16_000)
    torch.testing.assert_close(load_encoder(tmp_path / "mean")(waves), averaged(waves))


def test_encoders_that_differ_or_whiten_are_not_averaged(parts):
    with pytest.raises(InputError, match=r"2 encoders \(ecapa_tdnn and xvector\)"):
        average_encoders(parts)
    with pytest.raises(InputError, match="whiten their average"):
        average_encoders([parts[0], parts[0]])


def test_where_without_a_manifest_is_misuse(tmp_path, capsys):
    words = ["join", "--encoder", "fbank_stats", "random:ecapa_tdnn", "--where", "speaker=a"]
    assert main([*words, "--output", str(tmp_path / "joined")]) == 2
    assert "--where selects rows of --manifest, which is not given" in capsys.readouterr().err
