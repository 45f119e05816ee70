"""The one error that users meet: what was seen, what is allowed, what to do."""


class GaussianVAEError(Exception):
    """Bad input or an impossible request; its text is one line that a user can act on."""
