"""What can go wrong before a single record is read. Faults inside a file are `Issue`s, never exceptions."""


class FormatError(Exception):
    """Root of the errors of this room."""


class UnknownFormatError(FormatError, ValueError):
    """The caller named a format that does not exist."""

    def __init__(self, declared: str, known: tuple[str, ...]) -> None:
        super().__init__(declared, known)
        self.declared = declared
        self.known = known

    def __str__(self) -> str:
        return f"There is no training format called {self.declared!r}. Known formats: {', '.join(self.known)}, or auto."


class UnwritableRecordError(FormatError, ValueError):
    """A record holds something that the target format has no place for."""
