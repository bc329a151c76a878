"""Which corpora there are. A new one is a file that states its facts (a `Corpus`) and registers it, and a line here.

(A person's own corpus, outside of this package, has its line in that person's package: see `dino_speech.registry`.)
"""

from typing import Any

from dino_speech.registry import Registry

# Module -> the corpora that it puts into `CORPORA.known`.
MODULES = {
    "acted_emotion": ("crema-d", "emodb", "nemo", "ravdess"),
    "conversational_emotion": ("iemocap", "msp-podcast", "urdu"),
    "dementia": ("adress", "adresso"),
    "preparing": ("folder",),
    "voxceleb": ("voxceleb1", "voxceleb2"),
}
HOMES = {name: module for module, names in MODULES.items() for name in names}
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
