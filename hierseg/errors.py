"""What all errors have in common that a person caused, and can mend."""


class UserError(ValueError):
    """Something that a person gave cannot be used. The message is a plain sentence for that person.

    Every other exception is a fault of the program: its message is for the log alone.
    """
