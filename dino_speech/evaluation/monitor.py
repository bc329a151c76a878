"""A look at an encoder every few hundred steps of pretraining: EER, nearest-neighbour accuracy, effective rank.

The waves are decoded when a `Monitor` is made, and kept: what is wrong with them shows before training begins, and a
look costs one pass through the encoder. Full evaluations, with intervals, are in `verification` and `probing`.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dino_speech.audio.io import load_audio, seconds_to_samples
from dino_speech.data.trials import Trials, resolve
from dino_speech.data.utterances import Manifest, Skipped, list_some
from dino_speech.dino.collapse_doctor import rank_me
from dino_speech.errors import InputError
from dino_speech.evaluation.verification.scoring import cosine_scores, normalize
from dino_speech.metrics import eer
from dino_speech.models.embed_files import default_batch_s
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.evaluation_mode import evaluating

HIGHER_IS_BETTER = {"eer": False, "nearest_neighbour": True, "rank_me": True}


class Monitor:
    """Called with an encoder, gives a few numbers to follow and one to choose the best by.

    Args:
        manifest: the utterances to look at.
        trials: adds `eer` (percent); their utterances are then the ones that are looked at.
        label: a column; adds `nearest_neighbour`, the fraction of utterances whose nearest other utterance has their
            label. For a label other than the speaker, utterances of the same speaker do not count as neighbours.
        max_utterances: how many to look at where there are no trials; drawn with `seed`.
        max_s: longer utterances are cut to their first seconds.
        batch_s: seconds of audio per pass, padding included; None: what suits the device.
        cache_gib: memory for decoded waves; what does not fit is read at each look.
        seed: of the draw.

    `best_is` (also `metric`) names the figure that decides: "eer" (lower is better) with trials, else
    "nearest_neighbour" with a label, else "rank_me" (both: higher is better). Unreadable audio is in `skipped`.

    Raises:
        InputError: a name or column that the manifest lacks, fewer than two utterances that can be read, no target or
            no non-target among the trials, or no two utterances of one label.
    """

    def __init__(
        self,
        manifest: Manifest,
        *,
        trials: Trials | None = None,
        label: str | None = None,
        max_utterances: int = 1000,
        max_s: float = 20.0,
        batch_s: float | None = None,
        cache_gib: float = 1.0,
        seed: int = 0,
    ) -> None:
        rng = np.random.default_rng(seed)
        labels = np.array(manifest.label(label) if label else [""] * len(manifest))
        self._trials: tuple[NDArray, NDArray, NDArray] | None = None
        if trials is not None:
            sides = resolve(trials, manifest)
            rows, within = np.unique(sides, return_inverse=True)
            enroll, test = within.reshape(2, -1)
            self._trials = enroll, test, trials.labels
        else:
            rows = _some_of_each(labels, max_utterances, rng) if label else rng.permutation(len(manifest))
            rows = np.sort(rows[:max_utterances])
        speakers = manifest.label("speaker") if "speaker" in manifest.columns else [""] * len(manifest)
        self.manifest = manifest.subset(rows.tolist())
        self.best_is = "eer" if trials is not None else "nearest_neighbour" if label else "rank_me"
        self._labels = labels[rows] if label else None
        self._speakers = np.array(speakers)[rows] if label != "speaker" else np.full(len(rows), "")
        self._max_samples, self._batch_s = seconds_to_samples(max_s), batch_s
        self._bad: dict[int, Skipped] = {}
        self._cache: dict[int, Tensor] = {}
        self._fill_cache(cache_gib)
        self._check(self._readable())

    @property
    def skipped(self) -> list[Skipped]:
        """What could not be read so far, and why."""
        return list(self._bad.values())

    @property
    def metric(self) -> str:
        """The figure that says which encoder is best."""
        return self.best_is

    def __call__(self, encoder: SpeechEncoder) -> dict[str, float]:
        """Embed and measure; the encoder is left in the modes (train or eval) that it came in.

        Returns:
            `rank_me`, and `eer` and `nearest_neighbour` where trials and label were given; all NaN where the encoder
            gives numbers that are not finite.

        Raises:
            InputError: fewer than two utterances can be read, or no target or non-target is left.
        """
        with evaluating(encoder):
            embeddings = self._embed(encoder)
        read = self._readable()
        self._check(read)
        if not np.isfinite(embeddings[read]).all():
            given = {"rank_me": True, "eer": self._trials, "nearest_neighbour": self._labels is not None}
            return {name: float("nan") for name, is_given in given.items() if is_given}
        found = {"rank_me": rank_me(torch.from_numpy(embeddings[read]))}
        if self._trials is not None:
            enroll, test, labels = self._trials
            kept = read[enroll] & read[test]
            found["eer"] = eer(cosine_scores(embeddings, enroll[kept], test[kept]), labels[kept])
        if self._labels is not None:
            speakers = self._speakers[read]
            found["nearest_neighbour"] = nearest_neighbour(embeddings[read], self._labels[read], speakers=speakers)
        return found

    def better(self, new: Mapping[str, float], old: Mapping[str, float] | None) -> bool:
        """Whether `new` beats `old` in `metric`; anything finite beats nothing."""
        value = new[self.metric]
        if not np.isfinite(value):
            return False
        if old is None or not np.isfinite(old[self.metric]):
            return True
        return value > old[self.metric] if HIGHER_IS_BETTER[self.metric] else value < old[self.metric]

    def _readable(self) -> NDArray[np.bool_]:
        return np.array([row not in self._bad for row in range(len(self.manifest))], dtype=bool)

    def _check(self, read: NDArray[np.bool_]) -> None:
        """Refuse what cannot be measured."""
        if read.sum() < 2:
            reasons = list_some([f"{item.name}: {item.reason}" for item in self.skipped]) or "there are no more"
            raise InputError(f"{int(read.sum())} utterances of {self.manifest.name} can be monitored; {reasons}")
        if self._trials is not None:
            enroll, test, labels = self._trials
            kinds = labels[read[enroll] & read[test]]
            num_targets, num_others = int((kinds == 1).sum()), int((kinds == 0).sum())
            if not (num_targets and num_others):
                raise InputError(f"monitor: {num_targets} targets and {num_others} non-targets; each kind is needed")
        if self._labels is not None:
            _, counts = np.unique(self._labels[read & (self._labels != "")], return_counts=True)
            if counts.max(initial=0) < 2:
                raise InputError(f"monitor: no two utterances of {self.manifest.name} have the same label")

    @torch.no_grad()
    def _embed(self, encoder: SpeechEncoder) -> NDArray[np.float32]:
        """(N, D), with a row of zeros for what cannot be read."""
        embeddings = np.zeros((len(self.manifest), encoder.embedding_dim), dtype=np.float32)
        batch_s = default_batch_s(encoder.device) if self._batch_s is None else self._batch_s
        for rows, waves in self._batches(encoder.min_samples, seconds_to_samples(batch_s)):
            num_samples = torch.tensor([len(wave) for wave in waves], device=encoder.device)
            batch = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True).to(encoder.device)
            embeddings[rows] = encoder(batch, num_samples).float().cpu().numpy()
        return embeddings

    def _batches(self, min_samples: int, batch_samples: int) -> Iterator[tuple[list[int], list[Tensor]]]:
        """Rows and their waves, short ones first, as many as the padded batch may hold."""
        rows: list[int] = []
        waves: list[Tensor] = []
        for row in np.argsort([utterance.duration for utterance in self.manifest], kind="stable").tolist():
            wave = self._wave(row)
            if wave is not None and len(wave) < min_samples:
                self._note(row, f"{len(wave)} samples; this encoder needs at least {min_samples}")
            if row in self._bad or wave is None:
                continue
            longest = max(len(wave), *(len(other) for other in waves), 0)
            if waves and longest * (len(waves) + 1) > batch_samples:
                yield rows, waves
                rows, waves = [], []
            rows.append(row)
            waves.append(wave)
        if waves:
            yield rows, waves

    def _wave(self, row: int) -> Tensor | None:
        """The wave of one utterance, from memory if it is there; None if it cannot be read."""
        if row in self._cache or row in self._bad:
            return self._cache.get(row)
        utterance = self.manifest[row]
        start = utterance.start or 0
        stop = start + self._max_samples if utterance.stop is None else min(start + self._max_samples, utterance.stop)
        try:
            wave = load_audio(utterance.wav, start=start, stop=stop)
        except InputError as error:
            self._note(row, str(error))
            return None
        if not wave.any():
            self._note(row, "silent (all samples are zero)")
            return None
        return wave

    def _fill_cache(self, gib: float) -> None:
        left = int(gib * 2**30)
        for row in range(len(self.manifest)):
            wave = self._wave(row)
            if wave is not None and wave.nbytes <= left:
                left -= wave.nbytes
                self._cache[row] = wave

    def _note(self, row: int, reason: str) -> None:
        self._bad[row] = Skipped(self.manifest[row].id, reason)


def nearest_neighbour(embeddings: NDArray, labels: NDArray, *, speakers: NDArray | None = None) -> float:
    """Leave-one-out accuracy (a fraction) of the nearest neighbour by cosine in embeddings (N, D) with labels (N,).

    Rows with a blank label neither ask nor answer, nor do utterances of the asking speaker (blank or None: unknown, all
    answer). It is over the utterances for which some other that may answer has the right label; NaN if there is none.
    """
    labelled = labels != ""
    unit, labels = normalize(embeddings[labelled]), labels[labelled]
    groups = np.full(len(labels), "") if speakers is None else speakers[labelled]
    hits = asked = 0
    for begin in range(0, len(unit), 1024):
        part = slice(begin, begin + 1024)
        similarity = unit[part] @ unit.T  # (1024, N)
        silent = (groups[part, None] == groups) & (groups[part, None] != "")
        silent |= np.arange(begin, begin + len(similarity))[:, None] == np.arange(len(unit))
        similarity[silent] = -np.inf
        right = labels[part, None] == labels
        askable = (right & ~silent).any(axis=1)
        hits += int(right[np.arange(len(right)), similarity.argmax(axis=1)][askable].sum())
        asked += int(askable.sum())
    return hits / asked if asked else float("nan")


def _some_of_each(labels: NDArray, num: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows of as many classes as fit `num`: classes in random order, up to ten rows each (more if there are few)."""
    rows = rng.permutation(np.flatnonzero(labels != ""))
    classes = rng.permutation(np.unique(labels[rows]))
    share = max(10, num // max(1, len(classes)))
    return np.concatenate([rows[labels[rows] == name][:share] for name in classes] or [rows])
