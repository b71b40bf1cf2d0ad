"""Errors whose message is written for the person who gave the input."""


class InputError(ValueError):
    """Something a user supplied cannot be used.

    The message is one sentence that says what was found, what is expected and what to do.
    """


class Cancelled(RuntimeError):
    """The user asked for the running job to stop."""
