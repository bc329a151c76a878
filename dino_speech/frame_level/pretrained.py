"""The frame-level encoders as `build_encoder` knows them, and their weights from the hub or a folder, as safetensors.

Pickled weights (`pytorch_model.bin`) can execute whatever their author wrote, and code shipped with a model too:
neither is ever opened.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from dino_speech.audio.io import SAMPLE_RATE
from dino_speech.data.utterances import list_some
from dino_speech.errors import InputError
from dino_speech.features import NormalizedWave
from dino_speech.frame_level.architecture import (
    CLASSES,
    complete_config,
    config_object,
    own_class,
    require_transformers,
)
from dino_speech.frame_level.network import HuBERT, Wav2Vec2, WavLM, embedding_dim_of, pruned
from dino_speech.models.registry import ENCODERS, Preset, Resolved
from dino_speech.received_files import MAX_JSON_BYTES, parse_json, read_bytes, require_plain_file

logger = logging.getLogger(__name__)

NOT_NEEDED = {"masked_spec_embed"}  # only masked prediction reads it; checkpoints fine-tuned without masks lack it

NO_PICKLES = (
    "pickled weights are never read, because they can run code: save the model again with"
    " save_pretrained(..., safe_serialization=True) where you trust it"
)
ADAPTER_FILE, SHARDS_FILE = "adapter_config.json", "model.safetensors.index.json"
READ_FILES = {"config.json", "preprocessor_config.json", "processor_config.json", SHARDS_FILE}
EXPECTED = "expected a folder that transformers' save_pretrained wrote, or an id of the Hugging Face hub"


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A checkpoint: every option of its architecture, and the weights of the bare model by name, float32."""

    config: dict[str, Any]
    normalize: bool | None  # whether it wants waves of zero mean and unit variance; None: it does not say
    tensors: Mapping[str, Tensor] = field(repr=False)

    def load_into(self, network: nn.Module) -> None:
        """Put the weights into the model of a network that was built from `config`; it may have fewer layers."""
        model: Any = network.model
        model.load_state_dict({name: self.tensors[name] for name in model.state_dict()})


def read_pretrained(model_type: str, source: str, *, config: Any = None) -> Pretrained:
    """Read a checkpoint: an id of the hub, such as "facebook/wav2vec2-base" (downloaded on first use), or a folder.

    Refused: another kind or sample rate, what is not in safetensors or lacks weights, and a `config` beside it.
    """
    if config is not None:
        raise InputError("give source (whose config.json says the architecture) or config (random weights), not both")
    transformers = require_transformers()
    _check_folder(source)
    try:
        data, _ = transformers.PretrainedConfig.get_config_dict(source)
    except (OSError, ValueError) as error:
        raise InputError(f"{source}: {_first_line(error)}; {EXPECTED}") from error
    if not data.get("model_type"):
        raise InputError(f"{source}: no config.json names its model_type; {EXPECTED}")
    found = data["model_type"]
    if found != model_type:
        hint = f": build_encoder({found!r}, ...)" if found in CLASSES else ""
        raise InputError(f"{source}: config.json says model_type {found!r}, expected {model_type!r}{hint}")
    known = complete_config(model_type, config_object(model_type, _without_base(data)))
    normalize = _wants_normalized(source)
    model, report = _load(model_type, source, known)
    lacking = sorted(set(report["missing_keys"]) - NOT_NEEDED)
    if lacking:
        raise InputError(f"{source}: has no weights for {list_some(lacking)}; expected a complete {model_type} model")
    return Pretrained(known, normalize, model.float().state_dict())


def read_quantizer(source: str, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Quantizer and projections by name, which a pretraining checkpoint of wav2vec 2.0 has behind the model, or {}."""
    _check_folder(source)
    model, report = _load("wav2vec2", source, config, whole=require_transformers().Wav2Vec2ForPreTraining)
    tensors = {name: value for name, value in model.float().state_dict().items() if not name.startswith("wav2vec2.")}
    return {} if set(report["missing_keys"]) & set(tensors) else tensors


def _without_base(data: Mapping[str, Any]) -> dict[str, Any]:
    """Without what transformers could act on (quantization, code, classes); `complete_config` keeps what it knows."""
    return {key: value for key, value in data.items() if key not in ("auto_map", "quantization_config", "model_type")}


def _check_folder(source: str) -> None:
    """Refuse a folder without safetensors, and what transformers would follow: pipes, adapters, files elsewhere."""
    folder = Path(source)
    if not folder.is_dir():
        return
    if not any(folder.glob("*.safetensors")):
        raise InputError(f"{folder}: holds no model.safetensors; {NO_PICKLES}")
    if (folder / ADAPTER_FILE).exists():
        cure = "merge it into its model (merge_and_unload of peft), and save that"
        raise InputError(f"{folder / ADAPTER_FILE}: an adapter, which may name a model elsewhere; {cure}")
    try:
        for path in folder.iterdir():
            require_plain_file(path)
            if path.name in READ_FILES:
                found = parse_json(read_bytes(path, max_bytes=MAX_JSON_BYTES))
                if path.name == SHARDS_FILE:
                    _check_shards(found)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); {EXPECTED}") from error


def _check_shards(index: Any) -> None:
    names = index.get("weight_map") if isinstance(index, dict) else None
    files = [str(name) for name in names.values()] if isinstance(names, dict) else ["none"]
    if wrong := [name for name in files if Path(name).name != name or not name.endswith(".safetensors")]:
        raise ValueError(f"expected files *.safetensors of this folder; found {wrong[0][:100]!r}")


def _wants_normalized(source: str) -> bool | None:
    """`do_normalize` of the checkpoint's preprocessor, None where it has none; another rate is refused."""
    try:
        data, _ = require_transformers().Wav2Vec2FeatureExtractor.get_feature_extractor_dict(source)
    except (OSError, ValueError):
        return None
    rate = data.get("sampling_rate", SAMPLE_RATE)
    if rate != SAMPLE_RATE:
        cure = f"waves here have {SAMPLE_RATE} Hz; choose a checkpoint for {SAMPLE_RATE}"
        raise InputError(f"{source}: made for {rate} Hz, but {cure}")
    said = data.get("do_normalize")
    return None if said is None else bool(said)


def _load(model_type: str, source: str, config: Mapping[str, Any], *, whole: Any = None) -> tuple[Any, dict[str, Any]]:
    """A model with the weights of a checkpoint, and what was missing; `whole` is its class, None: the bare model's."""
    from safetensors import SafetensorError

    with _quiet():
        try:
            model, report = (whole or own_class(model_type, "Model")).from_pretrained(
                source, config=config_object(model_type, config), use_safetensors=True, output_loading_info=True
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            reason = f"its weights cannot be read as safetensors ({_first_line(error)})"
            raise InputError(f"{source}: {reason}; {NO_PICKLES}") from error
    return model, report


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers warns of weights that are left out (a quantizer, an ASR head): that is meant here."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


def _resolve(model_type: str, features: dict[str, Any], backbone: dict[str, Any]) -> Resolved:
    """Spell the architecture out, from `source` or from `config`, so that an encoder's folder needs neither."""
    pretrained = None
    if backbone["source"] is not None:
        backbone["source"] = str(backbone["source"])
        pretrained = read_pretrained(model_type, backbone["source"], config=backbone["config"])
    config = complete_config(model_type, backbone["config"]) if pretrained is None else pretrained.config
    if features["normalize"] is None:
        features["normalize"] = True if pretrained is None else _normalized(pretrained, backbone["source"])
    backbone["config"] = config
    embedding_dim = embedding_dim_of(pruned(config, backbone["num_layers"]), backbone["layer"], backbone["pooling"])
    return Resolved(features, backbone, embedding_dim, None if pretrained is None else pretrained.load_into)


def _normalized(pretrained: Pretrained, source: str) -> bool:
    if pretrained.normalize is None:
        problem = "%s: no preprocessor_config.json says whether waves are normalised; they are, as for most such models"
        logger.warning(
            f"{problem}: copy that file from the original checkpoint, or give normalize: true or false", source
        )
    return pretrained.normalize is not False


for _network in (Wav2Vec2, HuBERT, WavLM):
    ENCODERS.known[_network.model_type] = Preset(
        _network,
        features={"normalize": None},
        frontend=NormalizedWave,
        own={"embedding_batchnorm": False},
        resolve=partial(_resolve, _network.model_type),
    )
