"""Errors for people to read."""


class UserError(Exception):
    """An error that the user can fix: the text says what was received, expected, and what to do.

    The command line prints the text without a traceback. It may name paths, so it never travels.
    """


class UnknownPreprocessing(UserError):
    """A network's file does not tell which pixels it expects, and the settings do not say it."""


class SiteError(UserError):
    """A refusal by a site. Unlike any other exception, its code and text go to the server.

    So the text holds no paths, labels or other data of the site.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
