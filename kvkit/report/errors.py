"""The one error of this folder."""


class ReportError(Exception):
    """The report cannot be written. The message is ready for a user."""
