"""What only shows when the parts of a pretraining are put together, before anything runs."""

from dino_speech.compatibility import require_torchaudio
from dino_speech.dino.hyperparameters import Hyperparameters, RunSteps
from dino_speech.distributed import world_size
from dino_speech.errors import InputError


def check_parts(hyper: Hyperparameters, steps: RunSteps) -> None:
    """Refuse parts and data that do not go together, with an InputError that names the cure."""
    require_torchaudio()
    hyper.at(0, steps)  # refuses a warm-up longer than the run
    if not any(parameter.requires_grad for parameter in hyper.encoder.parameters()):
        name = hyper.encoder.config.name
        raise InputError(f"the encoder {name!r} has nothing to train; take for example ecapa_tdnn")
    if not hyper.objective.loss_weight and hyper.teacher.batchnorm == "train":
        raise InputError(
            "objective.loss_weight is 0, so the teacher hears nothing and its BatchNorm, teacher.batchnorm: train, "
            "would stay as it began; set teacher.batchnorm: ema"
        )
    fewest_short = 2 if hyper.objective.contrast_weight else 1
    if hyper.objective.student_views == "short" and hyper.crops.num_short < fewest_short:
        problem = f"objective.student_views is short, and crops.num_short is {hyper.crops.num_short}"
        raise InputError(f"{problem}: expected at least {fewest_short}; raise num_short")
    if hyper.encoder.config.whitening and hyper.whitening.shrinkage is not None:
        raise InputError("the encoder whitens its embeddings already, and goes on to; set whitening.shrinkage: null")
    shortest = hyper.crops.short_samples if hyper.crops.num_short else hyper.crops.long_samples
    if shortest < hyper.encoder.min_samples:
        raise InputError(
            f"crops of {shortest} samples are shorter than the {hyper.encoder.min_samples} that the encoder needs; "
            "lengthen short_s"
        )
    batch_size, accumulation_steps = hyper.schedule.batch_size, hyper.schedule.accumulation_steps
    micro_batch = batch_size // (accumulation_steps * world_size())
    if micro_batch < 2:
        raise InputError(
            f"batch_size = {batch_size} leaves {micro_batch} utterance for each of {world_size()} process(es) "
            f"x accumulation_steps = {accumulation_steps}; expected at least 2: raise batch_size"
        )
