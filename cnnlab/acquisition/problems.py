"""A report of what is wrong with a copy of a data set: each trouble once, with the places that have it."""

import dataclasses

from cnnlab.acquisition.errors import BadDataError

_NAMED = 5


@dataclasses.dataclass(frozen=True)
class Problem:
    """`what` is wrong with `where` (names of files, lines or classes); `fatal` if the splits would be wrong."""

    what: str
    where: tuple[str, ...]
    fatal: bool = True

    def __str__(self):
        named = ", ".join(self.where[:_NAMED])
        rest = len(self.where) - _NAMED
        return f"{self.what} ({len(self.where):,}): {named}{f', and {rest:,} more' if rest > 0 else ''}"


def found(what, where, fatal=True):
    """[Problem], or [] where `where` is empty."""
    where = tuple(map(str, where))
    return [Problem(what, where, fatal)] if where else []


def refuse(problems):
    """Raise BadDataError with a line for each fatal one of `problems`, if there is any."""
    fatal = [str(problem) for problem in problems if problem.fatal]
    if fatal:
        raise BadDataError("\n".join(fatal))
