"""Users, workspaces, who belongs where, and every way of proving who one is. Secrets are stored as SHA-256 only."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ARRAY, CheckConstraint, ForeignKey, Index, LargeBinary, Text, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from brightrun.accounts.roles import Role
from brightrun.db.base import Base, BigInt, HasId, HasTimestamps, InWorkspace, enum_check


class User(HasId, HasTimestamps, Base):
    """A person. `password_hash` is null for those who only use links or single sign-on."""

    __tablename__ = "users"
    __table_args__ = (Index("users_email_key", func.lower(text("email")), unique=True),)

    email: Mapped[str]
    name: Mapped[str]
    password_hash: Mapped[str | None]
    oidc_subject: Mapped[str | None] = mapped_column(unique=True)
    theme: Mapped[str] = mapped_column(server_default="system")
    disabled_at: Mapped[datetime | None]


class Workspace(HasId, HasTimestamps, Base):
    """storage_quota_bytes, max_running_jobs: set by the operator for this workspace; null: as for all; 0: no limit."""

    __tablename__ = "workspaces"
    __table_args__ = (CheckConstraint("max_running_jobs >= 0", name="max_running_jobs"),)

    name: Mapped[str]
    storage_quota_bytes: Mapped[BigInt | None]
    max_running_jobs: Mapped[int | None]
    deleted_at: Mapped[datetime | None]


class WorkspaceMember(InWorkspace, Base):
    __tablename__ = "workspace_members"
    __table_args__ = (enum_check("role", Role), Index("workspace_members_user_id_idx", "user_id"))

    workspace_id: Mapped[UUID] = mapped_column(ForeignKey("workspaces.id", ondelete="CASCADE"), primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    role: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Invitation(HasId, InWorkspace, Base):
    """A link that lets whoever holds it join, once."""

    __tablename__ = "invitations"
    __table_args__ = (
        enum_check("role", Role),
        UniqueConstraint("token_hash"),
        Index("invitations_workspace_id_idx", "workspace_id", "created_at"),
    )

    email: Mapped[str]
    role: Mapped[str]
    token_hash: Mapped[bytes] = mapped_column(LargeBinary)
    invited_by: Mapped[UUID | None] = mapped_column(ForeignKey("users.id", ondelete="SET NULL"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    accepted_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class AuthSession(HasId, Base):
    """A browser that is signed in; `workspace_id` is the one it is looking at."""

    __tablename__ = "auth_sessions"
    __table_args__ = (UniqueConstraint("token_hash"), Index("auth_sessions_user_id_idx", "user_id"))

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    current_workspace_id: Mapped[UUID | None] = mapped_column(ForeignKey("workspaces.id", ondelete="SET NULL"))
    token_hash: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    user_agent: Mapped[str | None]
    address: Mapped[str | None]


class LinkPurpose(StrEnum):
    SIGN_IN = "sign_in"
    PASSWORD_RESET = "password_reset"  # noqa: S105


class SigninLink(HasId, Base):
    """A one-time link: sign in as Jupyter does, or set a new password."""

    __tablename__ = "signin_links"
    __table_args__ = (
        enum_check("purpose", LinkPurpose),
        UniqueConstraint("token_hash"),
        Index("signin_links_user_id_idx", "user_id"),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    purpose: Mapped[str]
    token_hash: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class ApiToken(HasId, InWorkspace, Base):
    """A bearer token: one member, one workspace, some scopes, an end. `origin` tells who made it: a person or `up`."""

    __tablename__ = "api_tokens"
    __table_args__ = (
        UniqueConstraint("token_hash"),
        Index("api_tokens_workspace_id_idx", "workspace_id", "user_id"),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    name: Mapped[str]
    origin: Mapped[str] = mapped_column(server_default="person")
    hint: Mapped[str]
    token_hash: Mapped[bytes] = mapped_column(LargeBinary)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class RateLimit(Base):
    """Hits in one window, by key; see `accounts.rate_limits`. Belongs to nobody: most keys are addresses."""

    __tablename__ = "rate_limits"

    key: Mapped[str] = mapped_column(primary_key=True)
    window_start: Mapped[datetime] = mapped_column(primary_key=True)
    hits: Mapped[int]
