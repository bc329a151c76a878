"""Embedding once: what is skipped, what is asked for, what exists already."""

import numpy as np
import pytest

from dino_speech.data.manifest import Manifest
from dino_speech.embedding.embedded_manifest import EmbeddedManifest, embed_manifest
from dino_speech.errors import InputError


def test_unreadable_audio_is_a_row_of_nan_and_listed(encoder, broken_voices: Manifest) -> None:
    found = embed_manifest(encoder, broken_voices)
    assert sorted(item.name for item in found.skipped) == ["spk0_0", "spk1_1", "spk2_2"]
    assert [broken_voices[i].id for i in np.flatnonzero(~found.usable)] == ["spk0_0", "spk1_1", "spk2_2"]
    assert "empty file" in next(item.reason for item in found.skipped if item.name == "spk1_1")
    good = broken_voices.by_id()["spk3_3"]
    assert found.embeddings[good] == pytest.approx(encoder.embed_file(broken_voices[good].wav).numpy())


def test_rows_choose_and_existing_embeddings_are_used(encoder, broken_voices: Manifest) -> None:
    part = embed_manifest(encoder, broken_voices, rows=np.array([0, 3]))
    assert encoder.num_files == 2
    assert np.flatnonzero(part.usable).tolist() == [3]
    whole = embed_manifest(encoder, broken_voices)
    encoder.num_files = 0
    again = embed_manifest(None, broken_voices, rows=np.array([1, 3]), embedded=whole)
    assert encoder.num_files == 0
    assert np.array_equal(again.embeddings, whole.embeddings, equal_nan=True)
    assert again.skipped == []  # the skipped files are not among the rows asked for
    with pytest.raises(InputError, match="the embeddings given are of"):
        embed_manifest(None, broken_voices.subset([0, 1]), embedded=whole)
    with pytest.raises(InputError, match="give an encoder, or the embeddings"):
        embed_manifest(None, broken_voices)


def test_nothing_readable_is_refused(encoder, broken_voices: Manifest) -> None:
    with pytest.raises(InputError, match=r"none of 1 utterances could be embedded \(spk0_0: "):
        embed_manifest(encoder, broken_voices.subset([0]))


def test_embedded_manifest_says_what_is_usable() -> None:
    rows = np.array([[1.0, np.nan], [0.0, 1.0]], dtype=np.float32)
    assert EmbeddedManifest(Manifest([]), rows).usable.tolist() == [False, True]
