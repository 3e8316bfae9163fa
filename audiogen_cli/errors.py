"""The errors a user can cause or meet; `app.main` turns each into one line on stderr and an exit code."""


class AudiogenError(Exception):
    """The command ran and something failed (exit code 1)."""

    exit_code = 1


class InputError(AudiogenError):
    """Usage, configuration or input is wrong (exit code 2). The message says what, where and how to mend it."""

    exit_code = 2


class Interrupted(AudiogenError):
    """A signal ended a long run after it had saved its work (exit code 130)."""

    exit_code = 130
