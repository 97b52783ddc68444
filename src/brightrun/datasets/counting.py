"""With which tokenizer an installation counts the tokens of its datasets."""

from dataclasses import dataclass
from pathlib import Path

from brightrun.formats.base_models import ModelFolderError
from brightrun.formats.chat_errors import ChatError
from brightrun.formats.model_tokenizers import load_tokenizer, tokenizer_folder_of, tokenizer_sha256
from brightrun.formats.token_cache import TokenCache
from brightrun.logs import get_logger
from brightrun.settings import Settings
from brightrun.validation.model_view import Memory, ModelView

log = get_logger(__name__)


@dataclass(frozen=True)
class Counting:
    """model: a base model's name. base_model_dir: as in the settings. cache: folder that remembers counts."""

    model: str
    base_model_dir: Path | None
    cache: Path

    @classmethod
    def of(cls, settings: Settings) -> "Counting | None":
        """As the settings want it; None to estimate."""
        if settings.estimate_tokens:
            return None
        return cls(settings.default_base_model, settings.base_model_dir, settings.data / "cache" / "tokens")

    def view(self, content_sha256: str | None, declared_format: str | None) -> ModelView | None:
        """How the model sees a file. It counts and measures only: which model will be trained is chosen later.

        None when the model has no usable tokenizer on this machine. Then tokens are estimated, which every number
        says, and the log says why.
        """
        try:
            folder = tokenizer_folder_of(self.model, self.base_model_dir, allow_paths=False)
            tokenizer = load_tokenizer(self.model, self.base_model_dir, allow_paths=False)
            sha256 = tokenizer_sha256(folder)
        except (ModelFolderError, ChatError, OSError) as error:
            log.warning("tokens of datasets are estimated", default_base_model=self.model, reason=str(error))
            return None
        memory = None if content_sha256 is None else Memory(TokenCache(self.cache), content_sha256, sha256)
        return ModelView(tokenizer, self.model, lengths_only=True, memory=memory, data_format=declared_format or "auto")
