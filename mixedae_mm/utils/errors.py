"""The one error type for arguments, configurations and data that cannot work."""


class ConfigurationError(ValueError):
    """A value given by the user is not allowed.

    The message is one sentence: what is wrong, where, and what is allowed.
    Subclassing :class:`ValueError` keeps ``except ValueError`` of existing
    code working.
    """
