"""What can go wrong with the embedded server, and the end of its log to say why."""

from brightrun.errors import ConfigurationError, UnavailableError


class EmbeddedPostgresError(UnavailableError):
    """The embedded PostgreSQL did not start or answer; the message carries the end of its log."""

    code = "embedded_postgres"


class ClusterLocationError(ConfigurationError):
    """The database's files are not where they were put, cannot be reached, or belong to somebody else."""

    code = "embedded_postgres_location"


class ClusterVersionError(ConfigurationError):
    """The database's files were made by another major version of PostgreSQL."""

    code = "embedded_postgres_version"
