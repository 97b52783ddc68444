"""The form that starts training: what is in it, where it begins from, and what the API's schemas make of it."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from starlette.datastructures import FormData

from brightrun.errors import BrightRunError, InvalidInputError
from brightrun.formats.hyperparameters import HYPERPARAMETERS
from brightrun.training.launch import Wish
from brightrun.training.schemas import EstimateIn, JobCreate
from brightrun.training.setting_words import LABELS, PREFIX, form_text
from brightrun.training.tables import TrainingJob
from brightrun.training.templates.schemas import TemplateCreate
from brightrun.training.templates.tables import ConfigurationTemplate
from brightrun.web import forms

_PLAIN = (
    "dataset_id", "preset_id", "base_model", "other_model", "gpu_type", "gpu_count", "name", "max_cost_usd", "priority",
    "budget_override_reason", "idempotency_key", "template_id", "promise_digest", "template_name",
)  # fmt: skip
OTHER_MODEL = "other"
"""The choice that stands for a name typed in: a hub id."""
_MOST_ACKNOWLEDGED = 100


@dataclass(frozen=True)
class Filled:
    """The form as it was sent: text, so that what is wrong can be shown again. overrides: what is not empty.

    acknowledged: codes of the warnings that are ticked.
    """

    plain: dict[str, str]
    overrides: dict[str, str]
    acknowledged: frozenset[str] = field(default=frozenset())

    @classmethod
    def of(cls, form: FormData) -> "Filled":
        fields = [f"{PREFIX}{spec.name}" for spec in HYPERPARAMETERS]
        given = forms.text_fields(form, fields)
        overrides = {name.removeprefix(PREFIX): text for name, text in given.items() if text}
        ticked = [value for value in form.getlist("ack")[:_MOST_ACKNOWLEDGED] if isinstance(value, str)]
        return cls(forms.text_fields(form, _PLAIN), overrides, frozenset(ticked))

    @classmethod
    def fresh(cls, options: Mapping[str, Any], dataset_id: str) -> "Filled":
        plain = dict.fromkeys(_PLAIN, "") | {
            "dataset_id": dataset_id,
            "preset_id": options["default_preset"],
            "base_model": options["default_base_model"],
            "gpu_type": options["default_gpu"],
            "gpu_count": "1",
        }
        return cls(plain, {}).renewed()

    @classmethod
    def like_job(cls, job: TrainingJob, options: Mapping[str, Any]) -> "Filled":
        """What `job` was asked for, its dataset included."""
        fresh = cls.fresh(options, str(job.dataset_id))
        return fresh._with(options, job.preset_id, job.overrides, job.base_model, job.gpu_config, job.max_cost)

    @classmethod
    def like_template(cls, template: ConfigurationTemplate, options: Mapping[str, Any], dataset_id: str) -> "Filled":
        made = cls.fresh(options, dataset_id)._with(
            options,
            template.preset_id,
            template.overrides,
            template.base_model,
            template.gpu_config,
            template.max_cost,
        )
        made.plain["template_id"] = str(template.id)
        return made

    def renewed(self) -> "Filled":
        """With a key of its own, to start another job."""
        return replace(self, plain=self.plain | {"idempotency_key": secrets.token_urlsafe(18)})

    def _with(
        self,
        options: Mapping[str, Any],
        preset_id: str,
        overrides: Mapping[str, Any],
        base_model: str | None,
        gpu: Mapping[str, Any] | None,
        max_cost: Any,
    ) -> "Filled":
        more = {"preset_id": preset_id, "max_cost_usd": "" if max_cost is None else f"{max_cost:.2f}"}
        if base_model is not None:
            listed = base_model in {model["name"] for model in options["base_models"]}
            more |= {"base_model": base_model if listed else OTHER_MODEL, "other_model": "" if listed else base_model}
        if gpu is not None:
            more |= {"gpu_type": gpu["type"], "gpu_count": str(gpu["count"])}
        texts = {name: form_text(value) for name, value in overrides.items()}
        return replace(self, plain=self.plain | more, overrides=texts)

    @property
    def dataset_id(self) -> UUID | None:
        return self.estimate_in().dataset_id

    @property
    def base_model(self) -> str | None:
        chosen = self.plain["base_model"]
        return (self.plain["other_model"] if chosen == OTHER_MODEL else chosen) or None

    @property
    def template_id(self) -> UUID | None:
        try:
            return UUID(self.plain["template_id"])
        except ValueError:
            return None

    @property
    def wish(self) -> Wish:
        """What the checklist looks at besides. A limit that cannot be read is told at its field, by `job_create`."""
        try:
            limit = forms.parse(TemplateCreate, {"name": "x", "max_cost_usd": self._max_cost}).max_cost_usd
        except InvalidInputError:
            limit = None
        return Wish(limit, bool(self.plain["budget_override_reason"]), self.acknowledged)

    def estimate_in(self) -> EstimateIn:
        more = {"dataset_id": self.plain["dataset_id"] or None, "base_model": self.base_model}
        return forms.parse(EstimateIn, self._values() | more)

    def job_create(self) -> JobCreate:
        if not self.plain["dataset_id"]:
            raise InvalidInputError(
                "Choose a dataset", code="validation_error", details={"dataset_id": ["choose what to train on"]}
            )
        self._require_model()
        more = {
            "dataset_id": self.plain["dataset_id"],
            "base_model": self.base_model,
            "name": self.plain["name"] or None,
            "max_cost_usd": self._max_cost,
            "budget_override_reason": self.plain["budget_override_reason"] or None,
            "promise_digest": self.plain["promise_digest"] or None,
            "acknowledged": sorted(self.acknowledged),
        }
        if self.plain["priority"]:
            more["priority"] = self.plain["priority"]
        return forms.parse(JobCreate, self._values() | more)

    def template_create(self) -> TemplateCreate:
        self._require_model()
        more = {
            "name": self.plain["template_name"],
            "base_model": self.base_model,
            "max_cost_usd": self._max_cost,
        }
        return forms.parse(TemplateCreate, self._values() | more)

    @property
    def _max_cost(self) -> str | None:
        return self.plain["max_cost_usd"].removeprefix("$").replace(",", "") or None

    def _require_model(self) -> None:
        if self.plain["base_model"] == OTHER_MODEL and not self.plain["other_model"]:
            raise InvalidInputError(
                "Name the model", code="validation_error", details={"other_model": ["write its name on the hub"]}
            )

    def _values(self) -> dict[str, Any]:
        gpu = self.plain["gpu_type"]
        return {
            "preset_id": self.plain["preset_id"] or "balanced",
            "hyperparameters": self.overrides,
            "gpu_config": {"type": gpu, "count": self.plain["gpu_count"] or 1} if gpu else None,
        }


_AT_FIELD = {
    "budget_exceeded": "max_cost_usd",
    "dataset_not_ready": "dataset_id",
    "template_name_taken": "template_name",
}
"""Error code → the field where a page tells it."""


def form_problems(error: BrightRunError) -> dict[str, list[str]]:
    """field of the form → messages. The API's names for nested fields become the form's."""
    names = {"gpu_config.type": "gpu_type", "gpu_config.count": "gpu_count"}
    source = error
    if error.code == "gpu_unavailable" and isinstance(error.details, dict):
        source = InvalidInputError(error.message, code="validation_error", details=error.details)
    if field_name := _AT_FIELD.get(error.code):
        source = InvalidInputError(error.message, code="validation_error", details={field_name: [error.message]})
    return {
        names.get(name, name.replace("hyperparameters.", PREFIX)): messages
        for name, messages in forms.problems(source).items()
    }


def problem_label(name: str) -> str:
    """What a form's field is called where its problem is told elsewhere."""
    known = {
        "dataset_id": "Dataset", "preset_id": "Goal", "gpu_type": "Runs on", "gpu_count": "How many",
        "base_model": "Base model", "other_model": "Name on the hub", "max_cost_usd": "Limit",
    }  # fmt: skip
    return known.get(name) or LABELS.get(name.removeprefix(PREFIX), "")
