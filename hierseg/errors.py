"""The base class of errors that a user can fix."""


class UserError(ValueError):
    """The user's input cannot be used. The message is a plain sentence for the user.

    Every other exception is a bug: its message goes to the log only.
    """
