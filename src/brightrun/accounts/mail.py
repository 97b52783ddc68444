"""Mail, for those who set an SMTP server. Without one nothing is sent, and the caller says so."""

import asyncio
import smtplib
import ssl
from email.message import EmailMessage

from brightrun.errors import UnavailableError
from brightrun.logs import get_logger
from brightrun.settings import Settings

log = get_logger(__name__)
_TIMEOUT_S = 20


def _send(settings: Settings, message: EmailMessage) -> None:
    assert settings.smtp_host is not None
    context = ssl.create_default_context()
    connection: smtplib.SMTP
    if settings.smtp_tls == "tls":
        connection = smtplib.SMTP_SSL(settings.smtp_host, settings.smtp_port, timeout=_TIMEOUT_S, context=context)
    else:
        connection = smtplib.SMTP(settings.smtp_host, settings.smtp_port, timeout=_TIMEOUT_S)
    with connection:
        if settings.smtp_tls == "starttls":
            connection.starttls(context=context)
        if settings.smtp_user is not None:
            password = settings.smtp_password.get_secret_value() if settings.smtp_password else ""
            connection.login(settings.smtp_user, password)
        connection.send_message(message)


async def send(settings: Settings, to: str, subject: str, text: str, *, message_id: str | None = None) -> bool:
    """Send one plain-text mail. False when no SMTP server is set; UnavailableError when it does not take the mail.

    message_id: the same for a mail that may be sent twice, so that a mailbox can show it once.
    """
    if settings.smtp_host is None:
        return False
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = settings.smtp_from, to, subject
    if message_id is not None:
        message["Message-ID"] = f"<{message_id}@{settings.smtp_from.rpartition('@')[2] or 'brightrun'}>"
    message.set_content(text)
    try:
        await asyncio.to_thread(_send, settings, message)
    except (OSError, smtplib.SMTPException) as error:
        log.error("mail not sent", smtp_host=settings.smtp_host, error=str(error))
        raise UnavailableError(f"The mail server {settings.smtp_host} did not take the mail: {error}") from error
    return True


async def send_invitation(settings: Settings, to: str, inviter: str, workspace: str, link: str) -> bool:
    return await send(
        settings,
        to,
        f"{inviter} invites you to {workspace} on BrightRun",
        f"{inviter} invites you to the workspace {workspace!r} on BrightRun.\n\n"
        f"Join with this link (it works once, for 7 days):\n{link}\n",
    )


async def send_password_reset(settings: Settings, to: str, link: str) -> bool:
    return await send(
        settings,
        to,
        "Set a new BrightRun password",
        f"Set a new password with this link (it works once, for one hour):\n{link}\n\n"
        "If you did not ask for it, ignore this mail: nothing has changed.\n",
    )
