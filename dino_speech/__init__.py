"""Self-supervised utterance embeddings of speech: DINO pretraining, transfer and evaluation.

The names below are the public ones; all else may change. They are imported on first use (PEP 562), so that
``import dino_speech`` costs milliseconds and pulls in neither torch, torchaudio nor speechbrain.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "load_audio": "dino_speech.audio.io",
    "MultiCrop": "dino_speech.audio.crops",
    "Augment": "dino_speech.audio.augment",
    "SpecAugment": "dino_speech.audio.spec_augment",
    "WaveformTransforms": "dino_speech.audio.audiomentations_chain",
    "read_manifest": "dino_speech.data.manifest",
    "Corpus": "dino_speech.data.corpora.corpus",
    "register_corpus": "dino_speech.data.corpora.catalogue",
    "read_shards": "dino_speech.data.shards.reading",
    "read_trials": "dino_speech.data.trials",
    "build_encoder": "dino_speech.models.registry",
    "list_encoders": "dino_speech.models.registry",
    "register_encoder": "dino_speech.models.registry",
    "load_encoder": "dino_speech.models.checkpoint",
    "join_encoders": "dino_speech.models.joined",
    "average_encoders": "dino_speech.models.joined",
    "SpeechEncoder": "dino_speech.models.encoder",
    "DINOLoss": "dino_speech.dino.loss",
    "register_objective": "dino_speech.dino.objectives",
    "DINOPretrainer": "dino_speech.dino.pretrain",
    "find_mates": "dino_speech.dino.mates",
    "FineTuneStage": "dino_speech.transfer.stages",
    "FineTuner": "dino_speech.transfer.finetune",
    "load_finetuned": "dino_speech.transfer.system",
    "TAPT": "dino_speech.frame_level.tapt",
    "PTAPT": "dino_speech.frame_level.ptapt",
    "Distiller": "dino_speech.frame_level.distillation",
    "AudioTextTuner": "dino_speech.transfer.audio_text.tuner",
    "load_audio_text": "dino_speech.transfer.audio_text.system",
    "Clustering": "dino_speech.transfer.clusters",
    "PseudoLabelTrainer": "dino_speech.transfer.pseudo_labels",
    "finetune_folds": "dino_speech.studies.fold_systems",
    "FineTunedSubjects": "dino_speech.studies.finetuned_subjects",
    "AdaptationStudy": "dino_speech.studies.adaptation",
    "compare_encoders": "dino_speech.studies.comparison.compare",
    "compare_distilled": "dino_speech.studies.distillation",
    "TransferStudy": "dino_speech.studies.transfer",
    "Verifier": "dino_speech.evaluation.verification.verifier",
    "read_embeddings": "dino_speech.embedding.parts_on_disk",
    "evaluate_verification": "dino_speech.evaluation.verification.evaluate",
    "probe_layers": "dino_speech.evaluation.layers.probe_layers",
    "evaluate_clinical": "dino_speech.evaluation.clinical.evaluate",
    "evaluate_classification": "dino_speech.evaluation.probing.classification",
    "evaluate_finetuned": "dino_speech.evaluation.probing.learnt_elsewhere",
    "evaluate_regression": "dino_speech.evaluation.probing.regression",
    "evaluate_task": "dino_speech.evaluation.added_tasks",
    "register_task": "dino_speech.evaluation.added_tasks",
    "evaluate_cross_corpus": "dino_speech.evaluation.probing.learnt_elsewhere",
    "evaluate_robustness": "dino_speech.evaluation.stress.robustness",
    "evaluate_fairness": "dino_speech.evaluation.stress.fairness",
    "measure_efficiency": "dino_speech.evaluation.stress.efficiency",
    "det_plot": "dino_speech.evaluation.reports.pictures",
    "write_results": "dino_speech.evaluation.reports.result_folder",
    "PLDA": "dino_speech.evaluation.verification.plda",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        public = ", ".join(sorted(_HOMES))
        raise AttributeError(f"module 'dino_speech' has no attribute {name!r}; public names: {public}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
