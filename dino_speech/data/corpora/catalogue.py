"""Which corpora there are. A new one is a file that states its facts (a `Corpus`) and registers it, and a line here.

(A person's own corpus, outside of this package, has its line in that person's package: see `dino_speech.registry`.)
"""

from pathlib import Path
from typing import Any

from dino_speech.registry import Registry

# Name -> the module that puts it into `CORPORA.known`.
HOMES = {
    "adress": "dementia",
    "adresso": "dementia",
    "crema-d": "acted_emotion",
    "emodb": "acted_emotion",
    "folder": "preparing",
    "iemocap": "conversational_emotion",
    "msp-podcast": "conversational_emotion",
    "nemo": "acted_emotion",
    "ravdess": "acted_emotion",
    "urdu": "conversational_emotion",
    "voxceleb1": "voxceleb",
    "voxceleb2": "voxceleb",
}
# A `Corpus`, or, where nothing of the frame fits, a function of source, output and options that gives a summary.
CORPORA: Registry[Any] = Registry(
    "corpus", {}, {name: f"dino_speech.data.corpora.{home}" for name, home in HOMES.items()}, plural="corpora"
)


def register_corpus(name: str, corpus: Any) -> None:
    """Make a corpus of one's own known to `prepare`. The page "Add your own" has an example.

    Args:
        name: how it is asked for: `dino-speech prepare NAME`.
        corpus: a `Corpus`, or a function of source and output that writes manifests and gives a summary.

    Raises:
        InputError: a corpus of this package has the name.
    """
    CORPORA.register(name, corpus)


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
        InputError: no such corpus or folder, no utterance in it, or what the corpus itself refuses: a code that it does
            not have, a file in the folder of another speaker, a table that says otherwise.
    """
    from dino_speech.data.corpora.preparing import prepare_corpus

    corpus = CORPORA[name]
    summary: dict[str, Any] = (
        corpus(source, output, **options) if callable(corpus) else prepare_corpus(corpus, source, output)
    )
    return summary
