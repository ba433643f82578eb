"""The one error of this folder."""


class ResultsError(Exception):
    """Results cannot be kept, read or compared. The message is ready for a user: which file, where, why, what to do."""
