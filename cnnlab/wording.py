"""How numbers and labels are written in sentences and tables: in one way, decided here."""

import math
import re


def percent(share):
    """0.7321 -> '73.2%'."""
    return f"{100 * share:.1f}%"


def points(difference):
    """0.0271 -> '2.71 percentage points', without its sign."""
    if abs(difference) > 1:
        return "more than 100 percentage points"
    return f"{abs(100 * difference):.2f} percentage points"


def signed_points(difference):
    """0.0271 -> '+2.71', in percentage points, which the sentence has named."""
    return f"{100 * difference:+.2f}"


def p_value(p):
    """'p < 0.001' or 'p = 0.012'."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def duration(seconds):
    """Seconds below two minutes, else minutes."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def many(count):
    """'402,250', or in millions: '4.29 million'."""
    return f"{count:,.0f}" if count < 1e6 else f"{count / 1e6:.2f} million"


def listing(items):
    """'a', 'a and b', 'a, b and c'."""
    *first, last = map(str, items)
    return f"{', '.join(first)} and {last}" if first else last


def plural(n, noun, nouns=None):
    """'1 seed', '5 seeds'."""
    return f"{n:,} {noun if n == 1 else nouns or noun + 's'}"


OTHERS = {"conv1d": "1-D CNN"}
FAMILIES = {"dense": "dense", "cnn": "CNN", "gap": "CNN with global average pooling"}
SUFFIXES = (
    (r"_k(\d+)to(\d+)", r", \1x\1 to \2x\2 kernels"),
    (r"_k(\d+)", r", \1x\1 kernels"),
    (r"_(\d+)_epochs", r", \1 epochs"),
    (r"_n(\d+)", lambda match: f", {int(match[1]):,} training images"),
    (r"_permuted", ", permuted pixels"),
    (r"_weighted", ", rare classes weighted"),
    (r"_augmented", ", augmented"),
    (r"_unnormalised", " without batch normalisation"),
)


def readable(label):
    """A variant's label as people say it: 'cnn_32_64_k3' -> 'CNN 32-64, 3x3 kernels'.

    A label of no known form is returned as it is.
    """
    match = re.fullmatch(r"(mars_)?(dense|cnn|gap)((?:_\d+(?!\d*_epochs))*)(.*)", label)
    if not match:
        return OTHERS.get(label, label)
    mars, family, widths, rest = match.groups()
    for pattern, text in SUFFIXES:
        rest = re.sub(pattern, text, rest)
    name = f"{'Mars ' if mars else ''}{FAMILIES[family]} {widths.strip('_').replace('_', '-')}".strip()
    return name + rest.replace("_", " ")


def from_to(low, high, write):
    """'46.1% to 47.2%' of two numbers, each written by `write`; '' where there is no interval."""
    return "" if math.isnan(low) else f"{write(low)} to {write(high)}"
