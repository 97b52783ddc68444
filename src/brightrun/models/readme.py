"""The package's README: what this adapter is, how to load it, where it comes from, and what is (not) proven of it."""

from functools import lru_cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from brightrun.models.tables import ModelArtifact

GENERATED = ("training_summary.json", "SHA256SUMS")
"""Names in the package, besides the README, that are not stored files."""

_ABOUT = {
    "adapter_model.safetensors": "the adapter's weights",
    "adapter_config.json": "PEFT's configuration",
    "tokenizer.json": "tokenizer",
    "chat_template.jinja": "chat template",
    "metrics.csv": "both loss curves, one row a step",
    "heldout.json": "held-out losses, record by record: what the interval is computed from",
    "run.json": "everything that decided the run",
    "training_summary.json": "the numbers of this page, for programs",
    "SHA256SUMS": "check with `sha256sum -c SHA256SUMS`",
}


def readme(model: ModelArtifact) -> str:
    """Markdown. The first block of Python in it loads the adapter."""
    names = [*(file["name"] for file in model.files), *GENERATED]
    return _template().render(
        model=model,
        base=model.base_model,
        quality=model.quality_metrics,
        made=model.training_summary,
        config=model.configuration,
        files=[(name, _ABOUT[name]) for name in names if name in _ABOUT],
    )


@lru_cache(maxsize=1)
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("brightrun.models", "."),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 (Markdown for a file, not a page)
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["line"] = _line
    environment.filters["perplexity"] = _perplexity
    return environment.get_template("package_readme.md.j2")


def _line(text: str) -> str:
    return " ".join(text.split())


def _perplexity(value: float | None) -> str:
    return "too large for a number" if value is None else f"{value:,.2f}"
