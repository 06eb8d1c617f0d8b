"""The errors that a person is meant to read."""


class UserError(Exception):
    """Something the user can mend: the text says what was received, what was expected and what to do next.

    The command line prints the text without a traceback. It may name paths, so it never travels.
    """


class SiteError(UserError):
    """A refusal by a site. Unlike any other exception its code and text are sent to the server.

    The text therefore holds no paths, labels or other data of the site.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
