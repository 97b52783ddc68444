"""The streaming validator of training files."""

from brightrun.formats.issues import Issue
from brightrun.validation.checks import Checks
from brightrun.validation.report import ESTIMATE, Report
from brightrun.validation.validator import MAX_ISSUES, ValidationCancelled, validate

__all__ = ["ESTIMATE", "MAX_ISSUES", "Checks", "Issue", "Report", "ValidationCancelled", "validate"]
