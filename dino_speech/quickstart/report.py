"""What the quickstart found, as plain data, as a few lines for a terminal, and as files with pictures."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dino_speech.data.atomic import write_text_atomically
from dino_speech.evaluation.probing.classification import ClassificationReport
from dino_speech.evaluation.reports.pictures import det_plot, embedding_plot, has_matplotlib, training_plot
from dino_speech.evaluation.reports.report_file import write_report
from dino_speech.evaluation.verification.evaluate import VerificationReport
from dino_speech.intervals import Interval
from dino_speech.quickstart.data import QuickstartData

TRAINING_CURVES = ("step", "loss", "teacher_entropy", "embedding_spread", "grad_norm", "lr")


@dataclass(frozen=True, eq=False)
class SystemFigures:
    """One encoder on the unseen files; a figure that cannot be had is None.

    `embeddings` are (N, D), of the test files: a row of NaN where a file could not be embedded. `rank_me` is their
    effective rank, from 1 to D.
    """

    name: str
    embeddings: NDArray[np.float32]
    rank_me: float
    verification: VerificationReport | None
    classification: ClassificationReport | None

    @property
    def eer(self) -> float | None:
        """Equal error rate in percent."""
        return None if self.verification is None else self.verification.eer

    @property
    def uar(self) -> float | None:
        """Unweighted average recall, 0 to 1."""
        return None if self.classification is None else self.classification.uar

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        eer_interval = None if self.verification is None else self.verification.eer_interval.to_dict()
        uar_interval = None if self.classification is None else self.classification.intervals["uar"].to_dict()
        figures = {"name": self.name, "eer": self.eer, "uar": self.uar, "rank_me": self.rank_me}
        return {**figures, "eer_interval": eer_interval, "uar_interval": uar_interval}


@dataclass(frozen=True, eq=False)
class QuickstartReport:
    """What `quickstart` found.

    `floor` is `fbank_stats`, which has learnt nothing; `untrained` and `pretrained` the encoder before and after, and
    `whitened` both once more, whitened by the speech to learn from (empty where that is too little);
    `settings` those of pretraining; `notes` sentences that belong to the figures; `seconds` from call to report.
    """

    floor: SystemFigures
    untrained: SystemFigures
    pretrained: SystemFigures
    whitened: tuple[SystemFigures, ...]
    data: QuickstartData
    folder: Path
    settings: Mapping[str, Any]
    notes: tuple[str, ...]
    seconds: float
    provenance: Mapping[str, Any]

    @property
    def systems(self) -> tuple[SystemFigures, ...]:
        """All that was judged, in the order of the table."""
        return self.floor, self.untrained, *self.whitened[:1], self.pretrained, *self.whitened[1:]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; `eer_*` in percent, `uar_*` from 0 to 1, null where labels are missing."""
        return {
            **{"eer_untrained": self.untrained.eer, "eer_pretrained": self.pretrained.eer},
            **{"uar_untrained": self.untrained.uar, "uar_pretrained": self.pretrained.uar},
            "seconds": round(self.seconds, 1),
            **{"eer_fbank_stats": self.floor.eer, "uar_fbank_stats": self.floor.uar},
            **{"rank_me_untrained": self.untrained.rank_me, "rank_me_pretrained": self.pretrained.rank_me},
            "label": self.data.label,
            "synthetic": self.data.synthetic,
            "num_train": len(self.data.train),
            "num_test": len(self.data.test),
            "systems": [system.to_dict() for system in self.systems],
            "settings": dict(self.settings),
            "notes": list(self.notes),
            "skipped": [item.to_dict() for item in self.data.skipped],
            "encoder": str(self.folder / "encoder"),
            "report": str(self.folder / "report.md"),
            "provenance": dict(self.provenance),
        }

    def rows(self) -> list[dict[str, str]]:
        """The table, as text."""
        return [_row(system, self.data.label) for system in self.systems]

    def to_text(self) -> str:
        """What a person reads on a terminal."""
        rows = self.rows()
        widths = {key: max(len(key), *(len(row[key]) for row in rows)) for key in rows[0]}
        lines = ["  ".join(key.ljust(width) for key, width in widths.items()).rstrip()]
        lines += ["  ".join(row[key].ljust(width) for key, width in widths.items()).rstrip() for row in rows]
        lines += ["", *self.notes, "", f"{self.seconds:.0f} s. Report: {self.folder / 'report.md'}", "", "Next:"]
        return "\n".join([*lines, *(f"  {command}" for command in self.next_commands())])

    def next_commands(self) -> list[str]:
        """What to type with the new encoder."""
        encoder, test = str(self.folder / "encoder"), str(self.data.test_path)
        judged = ("--encoder", encoder, "--manifest", test)
        commands: list[tuple[str, ...]] = [
            ("embed", test, "--encoder", encoder, "--output", str(self.folder / "test.npz")),
            ("verify", *[utterance.wav for utterance in self.data.test][:2], "--encoder", encoder),
        ]
        if self.data.trials_path is not None:
            commands.append(("evaluate", "verification", *judged, "--trials", str(self.data.trials_path)))
        if self.data.label is not None:
            commands.append(("evaluate", "classification", *judged, "--label", self.data.label))
        return [shlex.join(("dino-speech", *words)) for words in commands]

    def write(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Write `report.md`, `report.json` and, with matplotlib, the pictures."""
        skipped = [{"file": item.name, "reason": item.reason} for item in self.data.skipped]
        settings = [{"setting": name, "value": value} for name, value in self.settings.items()]
        tables: dict[str, Sequence[Mapping[str, Any]]] = {"Unseen files": self.rows(), "Settings": settings}
        if skipped:
            tables["Files left out"] = skipped
        notes = {"What this is": "\n\n".join(self.notes), "Next": "```\n" + "\n".join(self.next_commands()) + "\n```"}
        title = "dino_speech quickstart" + (" on synthetic voices" if self.data.synthetic else "")
        write_report(self.folder, title, tables, self._draw(history), self.provenance, notes=notes)
        text = json.dumps(self.to_dict(), indent=2, default=str) + "\n"
        write_text_atomically(self.folder / "report.json", text)

    def _draw(self, history: Sequence[Mapping[str, Any]]) -> dict[str, Path]:
        """The pictures that the data allow; none without matplotlib."""
        if not has_matplotlib():
            return {}
        figures: dict[str, Path] = {}
        curves = {s.name: (s.verification.scores, s.verification.labels) for s in self.systems if s.verification}
        if curves:
            figures["Detection error trade-off"] = det_plot(self.folder / "det.png", curves)
        usable = ~np.isnan(np.concatenate([system.embeddings for system in self.systems], axis=1)).any(axis=1)
        if usable.sum() >= 3:
            known = "speaker" in self.data.test.columns
            names = np.array(self.data.test.label("speaker") if known else ["file"] * len(self.data.test))
            title = "Unseen speakers in two dimensions (t-SNE)" if known else "Unseen files in two dimensions"
            shown = {system.name: system.embeddings[usable] for system in self.systems}
            figures[title] = embedding_plot(self.folder / "embeddings.png", shown, names[usable].tolist())
        curves_of_training = [{key: row[key] for key in TRAINING_CURVES if key in row} for row in history]
        if curves_of_training:
            figures["Training"] = training_plot(self.folder / "training.png", curves_of_training)
        return figures


def _row(system: SystemFigures, label: str | None) -> dict[str, str]:
    eer = "-" if system.verification is None else _figure(system.verification.eer, system.verification.eer_interval, 1)
    row = {"encoder": system.name, "EER in % (95 %)": eer}
    if label is not None:
        found = system.classification
        row[f"UAR of {label} (95 %)"] = "-" if found is None else _figure(found.uar, found.intervals["uar"], 2)
    return row | {"effective rank": f"{system.rank_me:.1f}"}


def _figure(value: float, interval: Interval, digits: int) -> str:
    if not np.isfinite(interval.low):
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} ({interval.low:.{digits}f} to {interval.high:.{digits}f})"
