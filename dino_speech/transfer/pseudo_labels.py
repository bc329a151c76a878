"""Speaker verification without speaker labels: cluster, fine-tune on the clusters, cluster again.

Clustering itself lives in `clusters.py`, one round's training in `finetune.py`.
"""

import copy
import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dino_speech.data.atomic import read_json, write_text_atomically
from dino_speech.data.manifest import read_manifest, write_manifest
from dino_speech.data.seeds import derive_seed
from dino_speech.data.sole_use import alone
from dino_speech.data.utterances import Manifest
from dino_speech.dino.whiten import whiten
from dino_speech.distributed import join_processes
from dino_speech.embedding.parts_on_disk import read_embeddings
from dino_speech.embedding.to_disk import embed_to_folder
from dino_speech.errors import InputError
from dino_speech.models.checkpoint import load_encoder
from dino_speech.models.encoder import SpeechEncoder
from dino_speech.models.fingerprint import fingerprint
from dino_speech.models.joined import join_encoders
from dino_speech.received_files import refuse_links_out
from dino_speech.training.processes import Processes
from dino_speech.training.run_identity import describe, describe_manifest
from dino_speech.training.settings import OLD_RUN_NAMES
from dino_speech.training.state import differences, preserved_rng, refuse_other_things
from dino_speech.transfer.clusters import DROPPED, Clustering, Clusters
from dino_speech.transfer.finetune import FineTuner
from dino_speech.transfer.stages import FineTuneStage

logger = logging.getLogger(__name__)

COLUMN = "pseudo_speaker"
ROUND_FILE, IDENTITY_FILE, EMBEDDINGS, HEARD = "round.json", "pseudo_labels.json", "embeddings", "encoder"
WHITENED, SHRINKAGE = 2_000, 0.001  # as the recipes of pretraining whiten


@dataclass
class PseudoLabelTrainer:
    """Rounds of: embed all utterances, cluster them, fine-tune the encoder to tell the clusters apart.

    Args:
        encoder: where it begins, for example a pretrained one; it is copied.
        clustering: how clusters are made; one for all rounds, or one for each.
        stages: of the fine-tuning in each round; in the paper the last affine layers, then the whole network.
        num_rounds: how often.
        num_subcenters: of each cluster's class; more than one lets wrong utterances settle beside the right ones.
        tuner: further options of `FineTuner`, such as `batch_size`, by name.
        beside: an encoder that is not trained, whitened already, such as the untrained network or `fbank_stats`. What
            it hears counts as much as what the trained one does: wherever clusters are made, and in `encoder_`, the
            two stand side by side (`join_encoders`), and the trained one is whitened anew after each round.

    Learnt by `fit`:

    Attributes:
        encoder_: after the last round.
        rounds_: a summary of each round: `round` (0 is the encoder as it came), `num_clusters`, `num_kept`, `quality`
            (against the labels, if the manifest has any), `monitor`.

    Raises:
        InputError: no rounds, no stages, not as many clusterings as rounds, or one of two side by side is not whitened.

    Source: arXiv 2208.05413 (4.38 to 1.89 % EER on VoxCeleb1-O; its last model is a Res2Net50), 2109.13425;
        sub-center ArcFace and two stages as in its authors' later recipe (hyperion, egs/voxceleb/ssl.v1). `beside`:
        ours; on small corpora the long-term spectrum knows what a trained network does not, and the reverse.
    """

    encoder: SpeechEncoder
    _: KW_ONLY
    clustering: Clustering | Sequence[Clustering]
    stages: Sequence[FineTuneStage]
    num_rounds: int = 2  # [hyperion]
    num_subcenters: int = 2  # [hyperion]
    tuner: Mapping[str, Any] = field(default_factory=dict)
    beside: SpeechEncoder | None = None

    def __post_init__(self) -> None:
        if self.num_rounds < 1:
            raise InputError(f"num_rounds = {self.num_rounds}: expected at least 1")
        if not self.stages or not all(isinstance(stage, FineTuneStage) for stage in self.stages):
            raise InputError(f"stages = {self.stages!r}: expected a list with at least one FineTuneStage")
        if not isinstance(self.clustering, Clustering) and len(self.clustering) != self.num_rounds:
            found = f"{len(self.clustering)} clusterings for num_rounds = {self.num_rounds}"
            raise InputError(f"{found}: give one for each, or one")
        for name in ("encoder", "beside") if self.beside else ():
            if getattr(self, name).whitening is None:
                cure = "fit_whitening of both on the same unlabelled speech, or their cosines are not of one scale"
                raise InputError(f"{name} stands beside another encoder and is not whitened; {cure}")

    @alone()
    def fit(
        self,
        manifest: Manifest | str | PathLike[str] | Sequence[str | PathLike[str]],
        *,
        output_folder: str | PathLike[str],
        seed: int = 1986,
        monitor: Callable[[SpeechEncoder], dict[str, float]] | None = None,
        quality_label: str = "speaker",
        device: str | torch.device | None = None,
        resume: bool = True,
    ) -> "PseudoLabelTrainer":
        """Do the rounds; each leaves `round_<n>/` with `embeddings/`, `pseudo_labels.csv` and the fine-tuned system.

        A run that was stopped goes on: rounds that are finished are only loaded, the one that was not is resumed, also
        in the middle of its embeddings. Under torchrun the processes share all work but the clustering.

        Args:
            manifest: the utterances; no label is learnt from.
            output_folder: made with its parents.
            seed: of everything random.
            monitor: figures of an encoder, such as the EER on a list of trials, before the first and after each round;
                they are reported and decide nothing.
            quality_label: a column that clusters are compared with, for the report alone; where the manifest lacks it,
                there is no such figure.
            device: as in `FineTuner.fit`.
            resume: False deletes nothing but begins every round anew.

        Raises:
            InputError: a run with other settings is in `output_folder`, or too little is left of the clusters.
        """
        if not isinstance(manifest, Manifest):
            manifest = read_manifest(manifest)
        folder, chosen, processes = Path(output_folder), join_processes(device), Processes()
        processes.from_main(lambda: self._claim(folder, manifest, seed, resume))
        encoder, heard = self.encoder, self._beside(self.encoder)
        watch = partial(_watch, processes, monitor)
        self.rounds_: list[dict[str, Any]] = [{"round": 0, "monitor": watch(heard)}]
        for number in range(1, self.num_rounds + 1):
            round_folder = folder / f"round_{number}"
            summary = processes.from_main(lambda at=round_folder: _finished(at) if resume else None)  # type: ignore[misc]
            if summary is None:
                if not resume:
                    processes.from_main(partial(shutil.rmtree, round_folder / EMBEDDINGS, ignore_errors=True))
                # In parts that the processes share and to which a stopped run returns.
                embed_to_folder(manifest, copy.deepcopy(heard).to(chosen), round_folder / EMBEDDINGS, num_workers=1)
                make = partial(self._label, manifest, number, round_folder, seed, quality_label)
                labelled, summary = processes.from_main(make)
                options, drawn = {"device": device, "resume": resume}, derive_seed(seed, "round", number)
                encoder = self._tune(encoder, labelled, output_folder=round_folder, seed=drawn, **options)
                heard = self._beside(encoder, manifest, drawn, round_folder / HEARD)
                summary |= {"round": number, "monitor": watch(heard)}
                processes.from_main(partial(_write_json, round_folder / ROUND_FILE, summary))
            else:
                encoder = load_encoder(round_folder / "system")
                heard = encoder if self.beside is None else load_encoder(round_folder / HEARD)
            self.rounds_.append(summary)
            logger.info("round %d of %d: %s", number, self.num_rounds, summary)
        self.encoder_ = heard
        processes.from_main(lambda: self.encoder_.save(folder / "encoder"))
        return self

    def _beside(
        self, encoder: SpeechEncoder, manifest: Manifest | None = None, seed: int = 0, folder: Path | None = None
    ) -> SpeechEncoder:
        """What clusters are made of. A tuned encoder is whitened anew by the manifest; the result is kept."""
        if self.beside is None:
            return encoder
        if manifest is None:
            return join_encoders([encoder, self.beside])
        encoder = copy.deepcopy(encoder)
        encoder.whitening, encoder.config = None, replace(encoder.config, whitening=False)
        whiten(encoder, list(manifest), WHITENED, SHRINKAGE, seed)
        joined = join_encoders([encoder, self.beside])
        if folder is not None:
            Processes().from_main(lambda: joined.save(folder))
        return joined

    def _label(
        self, manifest: Manifest, number: int, folder: Path, seed: int, quality_label: str
    ) -> tuple[Manifest, dict[str, Any]]:
        """The kept utterances with their cluster in a column, also on disk, and what is known about the clusters."""
        found = read_embeddings(folder / EMBEDDINGS)
        positions = manifest.by_id()
        rows = [positions[name] for name in found.ids]
        clustering = self.clustering if isinstance(self.clustering, Clustering) else self.clustering[number - 1]
        clusters = clustering.fit(found.embeddings, seed=derive_seed(seed, "clusters", number))
        quality = None
        if quality_label in manifest.columns:
            labels = manifest.label(quality_label)
            quality = clusters.quality([labels[row] for row in rows])
        summary = {
            "num_utterances": len(manifest),
            "num_failed": len(found.failures),
            "num_found": clusters.num_found,
            "num_clusters": clusters.num_clusters,
            "num_kept": int(clusters.kept.sum()),
            "quality": quality.to_dict() if quality else None,
        }
        labelled = _with_column(manifest, rows, clusters)
        write_manifest(labelled, folder / "pseudo_labels.csv")
        return labelled, summary

    def _tune(self, encoder: SpeechEncoder, labelled: Manifest, **options: Any) -> SpeechEncoder:
        given: dict[str, Any] = {"objective": "subcenter_arcface", "num_subcenters": self.num_subcenters, **self.tuner}
        return FineTuner(encoder, label=COLUMN, stages=self.stages, **given).fit(labelled, **options).encoder_

    def _claim(self, folder: Path, manifest: Manifest, seed: int, resume: bool) -> None:
        """Note what this run is; refuse a folder in which another one is."""
        identity = {item.name: describe(getattr(self, item.name)) for item in fields(self)}
        if self.beside is None:  # came after the first of these files were written
            identity.pop("beside")
        else:
            identity["beside"] = [identity["beside"], fingerprint(self.beside)]
        identity |= {"seed": seed, "manifest": describe_manifest(manifest), "weights": fingerprint(self.encoder)}
        identity = json.loads(json.dumps(identity))  # as it will be read again
        path = folder / IDENTITY_FILE
        if resume and path.exists():
            found = differences(_of_result(read_json(path)), _of_result(identity))
            if found:
                cure = "Set back what differs, choose another output_folder, or begin anew with resume=False"
                raise InputError(f"{path} is of another run: {'; '.join(found)} (saved -> now). {cure}")
        if not path.exists():
            refuse_other_things(folder)
        refuse_links_out(folder)
        folder.mkdir(parents=True, exist_ok=True)
        _write_json(path, identity)


def _with_column(manifest: Manifest, rows: Sequence[int], clusters: Clusters) -> Manifest:
    width = len(str(clusters.num_clusters))
    kept = [(row, label) for row, label in zip(rows, clusters.labels.tolist(), strict=True) if label != DROPPED]
    utterances = [
        replace(manifest[row], labels={**manifest[row].labels, COLUMN: f"c{label:0{width}d}"}) for row, label in kept
    ]
    return Manifest(utterances, paths=manifest.paths, columns=[*manifest.columns, COLUMN])


def _of_result(identity: dict[str, Any]) -> dict[str, Any]:
    """An identity without what says how each round's fine-tuning is carried out, in whatever form it was given."""
    tuner = {name: value for name, value in identity["tuner"].items() if name not in (*OLD_RUN_NAMES, "run")}
    return {**identity, "tuner": tuner}


def _watch(
    processes: Processes, monitor: Callable[[SpeechEncoder], dict[str, float]] | None, encoder: SpeechEncoder
) -> dict[str, float] | None:
    if monitor is None:
        return None
    with preserved_rng():
        figures = processes.from_main(lambda: monitor(encoder))
    return {name: float(np.round(value, 4)) for name, value in figures.items()}


def _finished(folder: Path) -> dict[str, Any] | None:
    path = folder / ROUND_FILE
    return read_json(path) if path.exists() else None


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_text_atomically(path, json.dumps(content, indent=2) + "\n")
