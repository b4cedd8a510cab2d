"""What a comparison ends in: a sentence, a verdict, and the numbers behind them."""

import dataclasses
from typing import Any

BETTER, WORSE = "better", "worse"


def undetectable(n):
    """The third verdict."""
    return f"no difference detectable at n = {n}"


@dataclasses.dataclass(frozen=True)
class Finding:
    """A computed sentence.

    `verdict` is "better", "worse" or "no difference detectable at n = ..." of what the
    sentence names first, and None where it compares nothing; `numbers` holds what the sentence
    was written from, unrounded, shares as 0 to 1. Displayed in a notebook, it is its sentence.
    """

    sentence: str
    verdict: str | None
    numbers: dict[str, Any]

    def __str__(self):
        return self.sentence

    def _repr_markdown_(self):
        return self.sentence
