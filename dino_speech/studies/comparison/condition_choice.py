"""Which conditions a comparison of encoders goes through: all, a quick few, none, or those that are named."""

from collections.abc import Sequence

from dino_speech.audio.banks import list_sounds
from dino_speech.audio.decoding import StrPath
from dino_speech.errors import InputError
from dino_speech.evaluation.stress.conditions import Condition
from dino_speech.evaluation.stress.robustness import chosen_conditions

CHOICES = ("all", "quick", "none")
# ours: six families, one strength of each
QUICK = ("white_noise_10db", "gain_-20db", "low_pass_3400hz", "excerpt_50%", "speed_1.1", "room_0.6s")
Perturbations = str | Sequence[Condition | str]


def choose_perturbations(
    perturbations: Perturbations, *, noise: StrPath | None = None, rir: StrPath | None = None
) -> list[Condition]:
    """The conditions that `compare_encoders` is asked for.

    Args:
        perturbations: one of `CHOICES`, or conditions, names or kinds.
        noise: recorded backgrounds; "quick" takes each kind of them at 10 dB.
        rir: recorded rooms, which take the place of synthetic ones.

    Raises:
        InputError: an unknown choice or name, or one twice.
    """
    if isinstance(perturbations, str) and perturbations not in CHOICES:
        raise InputError(
            f"perturbations is {perturbations!r}; expected {', '.join(CHOICES)}, or a list of names or kinds"
        )
    if perturbations == "none" or not len(perturbations):
        return []
    if perturbations == "quick":
        sounds = [] if noise is None else sorted({sound.kind for sound in list_sounds(noise)} - {"rir"})
        rooms = [name for name in QUICK if name.startswith("room")]
        perturbations = [*(name for name in QUICK if name not in rooms), *(rooms if rir is None else ["room"])]
        perturbations += [f"background_{kind}_10db" for kind in sounds]
    return chosen_conditions(None if isinstance(perturbations, str) else perturbations, noise=noise, rir=rir)


def list_recordings(*collections: StrPath | None) -> list[list[tuple[str, int]]]:
    """Name and bytes of each recording of each collection: what conditions depend on beside their parameters."""
    return [
        [] if one is None else [(sound.path.name, sound.path.stat().st_size) for sound in list_sounds(one)]
        for one in collections
    ]
