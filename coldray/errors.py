"""The errors a person can cause or has to hear of; the command line prints them as one line.

Everything else that is raised is a bug and shows its trace.
"""


class UserError(Exception):
    """What was asked cannot be done as asked; the message names the place and says what to do.

    The command line prints it as one line and exits with code 2, nothing half-written.
    """

    exit_code = 2


class ServiceError(UserError):
    """A service (Ray, MLflow, an LLM address) could not be reached; exit code 3."""

    exit_code = 3
