"""Refusals: one class that every server around this package answers with the status that it carries."""

import contextlib
import importlib
from http import HTTPStatus


def _optional(module, name):
    with contextlib.suppress(ImportError):
        return getattr(importlib.import_module(module), name)
    return None


_FALCON = _optional("falcon", "HTTPError")
_TOOLKIT = _optional("sagemaker_inference.errors", "BaseInferenceToolkitError")


class RequestError(*([base for base in (_FALCON, _TOOLKIT) if base] or [Exception])):
    """An answer with a 4xx or 5xx status, in the terms of whichever server is around this file.

    The container's service (falcon) and the toolkit answer errors of their own kinds with the
    status that those carry, and everything else with 500. `status_code` is the HTTP status,
    `message` one sentence for the caller.
    """

    # Here because falcon has a read-only property of this name, and the toolkit assigns to it.
    status_code = None

    def __init__(self, status_code, message):
        phrase = HTTPStatus(status_code).phrase
        Exception.__init__(self, status_code, message)
        if _FALCON:
            _FALCON.__init__(self, f"{status_code} {phrase}", title=phrase, description=message)
        if _TOOLKIT:
            _TOOLKIT.__init__(self, status_code, message, phrase)
        self.status_code = status_code
        self.message = message

    def __str__(self):
        return self.message

    def to_dict(self, obj_type=dict):
        """The body of falcon's answer: {"error": message}, as the container's other errors look."""
        return obj_type(error=self.message)


class DamagedError(Exception):
    """A picture file that breaks off or contradicts itself: the text says how, without naming the format."""
