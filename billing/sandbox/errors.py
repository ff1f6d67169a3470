"""Razorpay's error envelope, with the texts it documents."""


class ApiError(Exception):
    """An answer that is not a success."""

    def __init__(
        self,
        description: str,
        *,
        status: int = 400,
        code: str = "BAD_REQUEST_ERROR",
        source: str | None = "NA",
        step: str | None = "NA",
        reason: str | None = "NA",
        field: str | None = None,
    ):
        super().__init__(description)
        self.status = status
        self.body = {"code": code, "description": description, "source": source, "step": step, "reason": reason, "metadata": {}}
        if field:
            self.body["field"] = field

    @property
    def envelope(self) -> dict:
        return {"error": self.body}


def bad_input(description: str, field: str | None = None) -> ApiError:
    return ApiError(description, source="business", step="payment_initiation", reason="input_validation_failed", field=field)


def url_not_found() -> ApiError:
    """A wrong address, a wrong method, and a feature that is not switched on: all three look the same."""
    return ApiError("The requested URL was not found on the server.")


def unknown_id() -> ApiError:
    return bad_input("The id provided does not exist")


def trouble(status: int = 500) -> ApiError:
    text = "We are facing some trouble completing your request at the moment. Please try again shortly."
    return ApiError(text, status=status, code="SERVER_ERROR")
