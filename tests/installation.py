"""The secret and the settings that every test's BrightRun is made with."""

from brightrun.settings import Settings

TEST_SECRET = b"the tests' secret key"
ROLE_PREFIX = "brtest"


def make_settings(**values: object) -> Settings:
    return Settings(database_role_prefix=ROLE_PREFIX, **values)  # type: ignore[arg-type]
