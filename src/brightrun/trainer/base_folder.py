"""Where the base model's files are, checked to be safe and to be the ones that the run was prepared with."""

from pathlib import Path

from brightrun.formats import base_models
from brightrun.formats.base_models import ModelFacts, ModelFolderError, UnsafeModelError
from brightrun.formats.run import BaseModelRef, RunConfig
from brightrun.trainer.outcomes import bad_configuration

_HASHES_FILE = ".base_model_hashes.json"


def locate(config: RunConfig, run_dir: Path) -> tuple[Path, ModelFacts]:
    """The folder of the base model, fetched from the hub first where that is allowed and needed, and its facts.

    Raises TrainerStop (64) with what to do: absent, changed since the run was prepared, or with pickled weights.
    """
    ref = config.base_model
    try:
        folder = _folder(ref, allow_hub=config.allow_hub)
        facts = base_models.inspect_folder(folder, allow_pickle=ref.allow_pickle)
        found = ref.sha256 and base_models.folder_sha256(folder, cache=run_dir / _HASHES_FILE)
    except UnsafeModelError as error:
        raise bad_configuration(str(error), code="pickled_weights_refused") from error
    except (ModelFolderError, OSError) as error:
        raise bad_configuration(
            f"The base model {ref.name} cannot be used: {error}",
            code="base_model_unusable",
            advice="Put it back, or prepare the run again with another base model.",
        ) from error
    if found != ref.sha256:
        raise bad_configuration(
            f"The base model in {folder} is not the one that this run was prepared with: SHA-256 {found}, prepared "
            f"with {ref.sha256}.",
            code="base_model_changed",
            advice="Put the earlier files back, or prepare a new run.",
        )
    return folder, facts


def _folder(ref: BaseModelRef, *, allow_hub: bool) -> Path:
    if ref.folder is not None:
        return Path(ref.folder)
    name = ref.name if ref.revision is None else f"{ref.name}@{ref.revision}"
    model = base_models.resolve(name, allow_hub=allow_hub, allow_paths=False)
    return model.folder if model.folder is not None else _fetch(ref)


def _fetch(ref: BaseModelRef) -> Path:
    """Safetensors if the model has them; its pickled weights only without those, and only where they are allowed."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
    try:
        folder = Path(str(snapshot_download(ref.name, revision=ref.revision, allow_patterns=patterns)))
        safe = any(folder.glob("*.safetensors"))
        if ref.allow_pickle and not safe:
            # By the commit, which is the folder's name, so that all files are of one.
            snapshot_download(ref.name, revision=folder.name, allow_patterns=["*.bin"])
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise bad_configuration(
            f"Cannot fetch the base model {ref.name} from the hub: {error}",
            code="base_model_fetch",
            advice="Check the name, the network and your access to the model; or give a local folder.",
        ) from error
    if not safe and not ref.allow_pickle:
        raise bad_configuration(
            f"The base model {ref.name} has no safetensors weights on the hub. Pickled weights can run any code when "
            "they are loaded: they are refused unless they are allowed for this model.",
            code="pickled_weights_refused",
            advice="Choose a model with safetensors; or, if you trust its origin, add its name to the setting "
            "BRIGHTRUN_PICKLED_MODELS (with `brightrun trainer prepare`: --allow-pickle).",
        )
    return folder
