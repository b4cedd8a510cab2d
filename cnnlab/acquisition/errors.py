"""What goes wrong with data, as exceptions whose messages are written for the person who runs the lab."""


class BadDataError(ValueError):
    """A file is not what it should be: truncated, altered, of another shape, or hostile."""


class DataUnavailableError(RuntimeError):
    """No source gave the data; the message says what was tried and what to do."""

    def _render_traceback_(self):
        """What IPython shows in place of a traceback: the message, which is all that a reader can act on."""
        return [str(self)]
