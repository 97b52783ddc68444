"""What the accounts API takes and gives."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from brightrun.accounts.roles import ALL_SCOPES, Permission, Role
from brightrun.web.page_context import Theme
from brightrun.web.text import ONE_LINE

Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), ONE_LINE]


def _known_scope(scope: str) -> str:
    if scope != ALL_SCOPES and scope not in {permission.value for permission in Permission}:
        allowed = ", ".join([ALL_SCOPES, *(permission.value for permission in Permission)])
        raise ValueError(f"unknown scope {scope!r}; one of: {allowed}")
    return scope


Scope = Annotated[str, AfterValidator(_known_scope)]


class _Out(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class WorkspaceCreate(BaseModel):
    name: Name


class WorkspaceOut(_Out):
    id: UUID
    name: str
    role: Role
    created_at: datetime


class WorkspaceData(BaseModel):
    workspace: WorkspaceOut


class StorageOut(BaseModel):
    """quota_bytes: null when there is no limit. used_bytes: everything that counts against it, the trash too.

    own_quota: set for this workspace by whoever runs the installation, not the installation's default.
    """

    used_bytes: int
    quota_bytes: int | None
    own_quota: bool


class StorageData(BaseModel):
    storage: StorageOut


class MemberOut(BaseModel):
    user_id: UUID
    email: str
    name: str
    role: Role
    created_at: datetime


class MemberUpdate(BaseModel):
    role: Role


class MemberData(BaseModel):
    member: MemberOut


class InvitationCreate(BaseModel):
    email: Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=254), ONE_LINE]
    role: Role = Role.VIEWER


class InvitationOut(_Out):
    id: UUID
    email: str
    role: Role
    created_at: datetime
    expires_at: datetime
    accepted_at: datetime | None
    revoked_at: datetime | None


class InvitationData(BaseModel):
    invitation: InvitationOut


class InvitationCreated(BaseModel):
    """link: shown once; whoever holds it can join."""

    invitation: InvitationOut
    link: str
    mailed: bool


class InvitationAccept(BaseModel):
    """token: the last part of the invitation's link."""

    token: str = Field(min_length=16, max_length=200)
    name: Annotated[str, StringConstraints(strip_whitespace=True, max_length=200), ONE_LINE] = ""
    password: str = Field(max_length=1024)


class TokenCreate(BaseModel):
    """expires_in_days: null means never. workspace_id: default the caller's current one."""

    name: Name
    workspace_id: UUID | None = None
    scopes: list[Scope] = Field(default=[ALL_SCOPES], min_length=1, max_length=20)
    expires_in_days: int | None = Field(default=90, ge=1, le=3650)


class TokenOut(_Out):
    id: UUID
    name: str
    hint: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class TokenData(BaseModel):
    api_token: TokenOut


class TokenCreated(BaseModel):
    """token: shown once."""

    token: str
    id: UUID
    api_token: TokenOut


class UserOut(BaseModel):
    id: UUID
    email: str
    name: str


class UserData(BaseModel):
    user: UserOut


class Me(BaseModel):
    user: UserOut
    workspace: WorkspaceOut
    permissions: list[str]


class PasswordChange(BaseModel):
    current_password: str | None = Field(default=None, max_length=1024)
    new_password: str = Field(max_length=1024)


class ProfileUpdate(BaseModel):
    name: Name
    theme: Theme


class Empty(BaseModel):
    """Nothing to say beyond success."""


class SignIn(BaseModel):
    email: Annotated[str, StringConstraints(max_length=254), ONE_LINE]
    password: str = Field(max_length=1024)


class SignUp(SignIn):
    name: Name
    workspace_name: Name | None = None
