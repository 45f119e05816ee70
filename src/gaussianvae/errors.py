"""The one error that users meet: what was seen, what is allowed, what to do."""

LONGEST = 600


class GaussianVAEError(Exception):
    """Bad input or an impossible request; its text is one line that a user can act on.

    What a damaged file holds may be quoted in it: the line is cut in the middle where it would be too long to read.
    """

    def __init__(self, text: str) -> None:
        line = " ".join(text.split())
        if len(line) > LONGEST:
            line = f"{line[: LONGEST * 2 // 3]} ... {line[-LONGEST // 3 :]}"
        super().__init__(line)
