"""Single sign-on by OpenID Connect: authorization code with PKCE, state and nonce; the ID token is verified in full.

What the login hop must remember (state, nonce, code verifier, where to go next) rides in a signed cookie.
"""

import base64
import hashlib
import hmac
import json
import secrets
import time
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import httpx2
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from sqlalchemy.ext.asyncio import AsyncSession

from brightrun.accounts import repository, signin
from brightrun.accounts.browser import open_session
from brightrun.accounts.context import cookies_are_secure, platform_of, same_secret
from brightrun.accounts.pages import local_path, signin_form
from brightrun.accounts.tables import User
from brightrun.db.session import assume
from brightrun.errors import (
    BrightRunError,
    ConfigurationError,
    ForbiddenError,
    NotFoundError,
    UnauthenticatedError,
    UnavailableError,
)
from brightrun.platform import Platform, derive_key
from brightrun.settings import Settings

router = APIRouter(include_in_schema=False)

COOKIE = "brightrun_oidc"
LIFE_S = 600
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"]
_LEEWAY_S = 60


@dataclass(frozen=True)
class Hop:
    """What must be the same when the browser comes back."""

    state: str
    nonce: str
    verifier: str
    next: str
    expires: float


def _seal(platform: Platform, hop: Hop) -> str:
    body = base64.urlsafe_b64encode(json.dumps(asdict(hop)).encode()).decode()
    return f"{body}.{_signature(platform, body)}"


def _signature(platform: Platform, body: str) -> str:
    return hmac.new(derive_key(platform.secret, "oidc hop"), body.encode(), hashlib.sha256).hexdigest()


def _unseal(platform: Platform, value: str) -> Hop:
    body, _, signature = value.rpartition(".")
    if not same_secret(signature, _signature(platform, body)):
        raise UnauthenticatedError("The sign-in was not begun in this browser. Try again", code="oidc_state")
    hop = Hop(**json.loads(base64.urlsafe_b64decode(body)))
    if hop.expires < time.time():
        raise UnauthenticatedError("The sign-in took longer than ten minutes. Try again", code="oidc_state")
    return hop


def _issuer(settings: Settings) -> str:
    if settings.oidc_issuer is None:
        raise NotFoundError("Single sign-on is not set up here")
    if settings.oidc_client_id is None or settings.oidc_client_secret is None:
        raise ConfigurationError(
            "BRIGHTRUN_OIDC_ISSUER needs BRIGHTRUN_OIDC_CLIENT_ID and BRIGHTRUN_OIDC_CLIENT_SECRET"
        )
    return settings.oidc_issuer.rstrip("/")


async def _discover(http: httpx2.AsyncClient, issuer: str) -> dict[str, Any]:
    """The provider's own description of itself. Raises UnavailableError when it is not there or is another's."""
    found = await _get_json(http, f"{issuer}/.well-known/openid-configuration")
    if str(found.get("issuer", "")).rstrip("/") != issuer:
        raise UnavailableError(f"the sign-in provider calls itself {found.get('issuer')!r}, not {issuer!r}")
    return found


async def _get_json(http: httpx2.AsyncClient, url: str) -> dict[str, Any]:
    try:
        answer = await http.get(url)
        answer.raise_for_status()
        body: dict[str, Any] = answer.json()
    except (httpx2.HTTPError, ValueError) as error:
        raise UnavailableError(f"the sign-in provider does not answer at {url}: {error}") from error
    return body


def _client(settings: Settings, platform: Platform) -> AsyncOAuth2Client:
    assert settings.oidc_client_secret is not None
    return AsyncOAuth2Client(
        client_id=settings.oidc_client_id,
        client_secret=settings.oidc_client_secret.get_secret_value(),
        redirect_uri=f"{platform.public_url}/signin/oidc/callback",
        scope="openid email profile",
        code_challenge_method="S256",
        timeout=20,
    )


@router.get("/signin/oidc")
async def begin(request: Request, next: Annotated[str, Query(max_length=2000)] = "/") -> Response:  # noqa: A002
    """Off to the provider."""
    platform = platform_of(request)
    issuer = _issuer(platform.settings)
    async with httpx2.AsyncClient(timeout=20) as http, _client(platform.settings, platform) as client:
        provider = await _discover(http, issuer)
        hop = Hop(
            state=secrets.token_urlsafe(24),
            nonce=secrets.token_urlsafe(24),
            verifier=secrets.token_urlsafe(48),
            next=local_path(next),
            expires=time.time() + LIFE_S,
        )
        url, _state = client.create_authorization_url(
            provider["authorization_endpoint"], state=hop.state, nonce=hop.nonce, code_verifier=hop.verifier
        )
    response = RedirectResponse(url, status_code=303)
    response.set_cookie(
        COOKIE,
        _seal(platform, hop),
        max_age=LIFE_S,
        httponly=True,
        secure=cookies_are_secure(platform),
        samesite="lax",  # The provider sends the browser back from its own site.
        path="/signin/oidc",
    )
    return response


@router.get("/signin/oidc/callback")
async def finish(
    request: Request,
    code: Annotated[str, Query(max_length=4000)] = "",
    state: Annotated[str, Query(max_length=400)] = "",
    error: Annotated[str, Query(max_length=400)] = "",
) -> Response:
    """Back from the provider: check everything, then sign in; or the sign-in page, and why it did not work."""
    try:
        response = await _finish(request, code, state, error)
    except BrightRunError as refusal:
        response = signin_form(request, "/", status=refusal.status, errors={"": [refusal.message]})
    response.delete_cookie(COOKIE, path="/signin/oidc", secure=cookies_are_secure(platform_of(request)))
    return response


async def _finish(request: Request, code: str, state: str, error: str) -> Response:
    platform = platform_of(request)
    settings = platform.settings
    issuer = _issuer(settings)
    hop = _unseal(platform, request.cookies.get(COOKIE, ""))
    if not same_secret(state, hop.state):
        raise UnauthenticatedError("The sign-in was not begun in this browser. Try again", code="oidc_state")
    if error or not code:
        raise UnauthenticatedError(f"The sign-in provider refused: {error or 'no code'}", code="oidc_refused")
    claims = await _claims(settings, platform, issuer, code, hop)
    async with platform.db.transaction() as session:
        user = await _find_or_make(session, settings, f"{issuer}#{claims['sub']}", claims)
        response = RedirectResponse(hop.next, status_code=303)
        await open_session(session, platform, request, response, user, by="single sign-on")
    return response


async def _claims(settings: Settings, platform: Platform, issuer: str, code: str, hop: Hop) -> dict[str, Any]:
    async with httpx2.AsyncClient(timeout=20) as http, _client(settings, platform) as client:
        provider = await _discover(http, issuer)
        try:
            token = await client.fetch_token(provider["token_endpoint"], code=code, code_verifier=hop.verifier)
        except (AuthlibBaseError, httpx2.HTTPError) as error:
            raise UnauthenticatedError(
                f"The sign-in provider refused the code: {error}", code="oidc_refused"
            ) from error
        keys = await _get_json(http, provider["jwks_uri"])
    return verify_id_token(
        token.get("id_token", ""), keys, issuer=issuer, audience=settings.oidc_client_id or "", nonce=hop.nonce
    )


def verify_id_token(id_token: str, keys: dict[str, Any], *, issuer: str, audience: str, nonce: str) -> dict[str, Any]:
    """The claims of an ID token whose signature, issuer, audience, times and nonce are right.

    Raises UnauthenticatedError otherwise.
    """
    registry = jwt.JWTClaimsRegistry(
        leeway=_LEEWAY_S,
        iss={"essential": True, "values": [issuer, f"{issuer}/"]},
        aud={"essential": True, "value": audience},
        exp={"essential": True},
        iat={"essential": True},
        sub={"essential": True},
        nonce={"essential": True, "value": nonce},
    )
    try:
        token = jwt.decode(id_token, KeySet.import_key_set(keys), algorithms=_ALGORITHMS)  # type: ignore[arg-type]
        registry.validate(token.claims)
    except (JoseError, ValueError, KeyError) as error:
        raise UnauthenticatedError(f"The sign-in provider's token does not hold: {error}", code="oidc_token") from error
    authorized_party = token.claims.get("azp")
    if isinstance(token.claims["aud"], list) and len(token.claims["aud"]) > 1 and authorized_party != audience:
        raise UnauthenticatedError("The sign-in provider's token is for another application", code="oidc_token")
    return dict(token.claims)


async def _find_or_make(session: AsyncSession, settings: Settings, subject: str, claims: dict[str, Any]) -> User:
    """By the provider's own id; else, once, by verified e-mail; else a new account where that is allowed."""
    user_id = await repository.lookup_user_by_oidc_subject(session, subject)
    email = claims.get("email")
    if user_id is None and isinstance(email, str) and claims.get("email_verified") is True:
        user_id = await repository.lookup_user_by_email(session, email)
    if user_id is not None:
        await assume(session, user_id=user_id)
        user = await repository.get_user(session, user_id)
        if user is None or user.disabled_at is not None:
            raise ForbiddenError("This account is switched off. Ask whoever runs this server")
        if user.oidc_subject is None:
            await signin.adopt_identity(session, user, subject)
        elif user.oidc_subject != subject:
            raise ForbiddenError(
                "This e-mail belongs to another identity of the sign-in provider", code="oidc_identity"
            )
        return user
    if not settings.oidc_create_users:
        raise ForbiddenError("There is no account for you here yet: ask for an invitation", code="oidc_unknown")
    if not isinstance(email, str) or claims.get("email_verified") is not True:
        raise ForbiddenError("The sign-in provider does not vouch for an e-mail address of yours", code="oidc_email")
    name = str(claims.get("name") or email)[:200]
    user = await signin.create_user(session, email=email, name=name, oidc_subject=subject)
    await signin.create_workspace(session, user.id, f"{name}'s workspace")
    return user
