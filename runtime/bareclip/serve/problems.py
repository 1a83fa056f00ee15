"""Everything a client can be told is wrong, as OpenAI's clients read it.

Texts of problems are this module's and its callers' own: what decoders and ONNX Runtime say may
hold memory addresses, paths or what a client sent, and goes nowhere.
"""

from typing import Any


class Problem(Exception):  # noqa: N818 an answer, not a fault
    """An answer that is an error.

    Attributes:
        status: HTTP's.
        message: What was wrong and what would be right.
        code: A word for programs.
        param: The part of the request that is meant, such as ``"input[3]"``.
        retry_after: Seconds, where trying again helps.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code
        self.param, self.retry_after = param, retry_after

    @property
    def kind(self) -> str:
        """OpenAI's word for a kind of error."""
        if self.status == 401:
            return "authentication_error"
        if self.status == 429:
            return "rate_limit_error"
        return "invalid_request_error" if self.status < 500 else "server_error"

    def body(self) -> dict[str, Any]:
        """The error object."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": error}


class PictureProblem(Exception):  # noqa: N818 likewise
    """Why a picture cannot be used; one line that names no picture."""

    def __init__(self, message: str, code: str = "invalid_image") -> None:
        super().__init__(message)
        self.code = code


def invalid(message: str, param: str | None = None) -> Problem:
    """A request that is not as it has to be."""
    return Problem(400, message, code="invalid_request", param=param)


def too_large(message: str, param: str | None = None) -> Problem:
    """A request that is larger than is taken."""
    return Problem(413, message, code="too_large", param=param)


def busy(seconds: float, why: str) -> Problem:
    """A request for which there is no room now."""
    after = min(max(1, round(seconds)), 60)
    message = f"the server is busy ({why}); try again in {after} s"
    return Problem(429, message, code="busy", retry_after=after)
