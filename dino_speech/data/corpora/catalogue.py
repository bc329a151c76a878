"""Which corpora there are. A new one is a file that states its facts (a `Corpus`), and a line in `CORPORA`."""

from importlib import import_module
from pathlib import Path
from typing import Any

# Name -> module and what it holds: a `Corpus`, or a function that prepares, given source and output.
CORPORA = {
    "adress": "dino_speech.data.corpora.dementia:ADRESS",
    "adresso": "dino_speech.data.corpora.dementia:ADRESSO",
    "crema-d": "dino_speech.data.corpora.acted_emotion:CREMA_D",
    "emodb": "dino_speech.data.corpora.acted_emotion:EMODB",
    "folder": "dino_speech.data.corpora.folder:prepare_folder",
    "iemocap": "dino_speech.data.corpora.conversational_emotion:IEMOCAP",
    "msp-podcast": "dino_speech.data.corpora.conversational_emotion:MSP_PODCAST",
    "nemo": "dino_speech.data.corpora.acted_emotion:NEMO",
    "ravdess": "dino_speech.data.corpora.acted_emotion:RAVDESS",
    "urdu": "dino_speech.data.corpora.conversational_emotion:URDU",
    "voxceleb1": "dino_speech.data.corpora.voxceleb:prepare_voxceleb1",
    "voxceleb2": "dino_speech.data.corpora.voxceleb:prepare_voxceleb2",
}


def corpus_named(name: str) -> Any:
    """What `CORPORA` names: a `Corpus`, or a function that prepares."""
    module, _, attribute = CORPORA[name].partition(":")
    return getattr(import_module(module), attribute)


def prepare(name: str, source: str | Path, output: str | Path, **options: Any) -> dict[str, Any]:
    """Make manifests of a corpus's own tree, as its owners give it out.

    Args:
        name: one of `CORPORA`.
        source: the corpus.
        output: where the files go; made if absent.
        options: of a corpus that is prepared by a function.

    Returns:
        The summary of `preparing.prepare_corpus`, or of that function.

    Raises:
        InputError: no such folder, no utterance in it, or what the corpus itself refuses: a code that it does not have,
            a file in the folder of another speaker, a table that says otherwise.
    """
    from dino_speech.data.corpora.corpus import Corpus
    from dino_speech.data.corpora.preparing import prepare_corpus

    found = corpus_named(name)
    return prepare_corpus(found, source, output) if isinstance(found, Corpus) else found(source, output, **options)
