"""How numbers and labels are written in sentences and tables, decided once, here."""

import math
import re


def percent(share):
    """0.7321 -> '73.2%'."""
    return f"{100 * share:.1f}%"


def points(difference):
    """0.0271 -> '2.7 points', percentage points without a sign."""
    return f"{abs(100 * difference):.1f} points"


def whole_points(margin):
    """0.01 -> '1 point', 0.02 -> '2 points'."""
    return f"{100 * margin:g} point{'s' * (margin != 0.01)}"


def signed_points(difference):
    """0.0271 -> '+2.71', percentage points, which the column's heading names."""
    return f"{100 * difference:+.2f}"


def rounded(number, digits):
    """(1_449, 3) -> '1,450', (0.02714, 3) -> '0.0271': rounded to so many significant digits."""
    return f"{float(f'{number:.{digits}g}'):,.10g}"


def about(n):
    """826.3 -> 'about 830': an estimate to two significant digits."""
    return f"about {rounded(n, 2)}"


def p_value(p):
    """'p < 0.001' or 'p = 0.012'."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def duration(seconds):
    """Seconds below two minutes, else minutes."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def listing(items):
    """'a', 'a and b', 'a, b and c'."""
    *first, last = map(str, items)
    return f"{', '.join(first)} and {last}" if first else last


def plural(n, noun):
    """'1 seed', '5 seeds'."""
    return f"{n:,} {noun if n == 1 else noun + 's'}"


def capital(text):
    """`text` with a capital first letter, to begin a sentence."""
    return text[:1].upper() + text[1:]


def spelled(n):
    """1 -> 'one'; numbers above twelve in digits."""
    return SPELLED[n] if n < len(SPELLED) else f"{n:,}"


def share_spelled(n, total):
    """(2, 5) -> 'two of five', (0, 5) -> 'none of five'."""
    return f"{spelled(n) if n else 'none'} of {spelled(total)}"


SPELLED = ("no", *["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"])
# Labels that follow no pattern: on their own, and within a sentence.
OTHERS = {
    "conv1d": ("1-D CNN", "1-D CNN"),
    "nearest": ("Nearest training image", "the nearest training image"),
    "softmax_regression": ("Softmax regression on pixels", "softmax regression"),
    "mars_logistic": ("Logistic regression on pixels", "logistic regression"),
    "mars_probe": ("Linear probe", "the linear probe"),
    "mars_probe_mirrored": ("Linear probe, mirror images averaged", "the mirror-averaged probe"),
    "mars_probe_all": ("Linear probe, refitted", "the refitted probe"),
    "mars_tuned": ("Fine-tuned network", "the fine-tuned network"),
    "mars_tuned_all": ("Fine-tuned network, refitted", "the refitted network"),
}
# Ends the label of several seeds of a network that vote together.
VOTE = "_vote"
FAMILIES = {
    "dense": "dense", "cnn": "CNN", "gap": "CNN with global average pooling", "pretrained": "pretrained features",
}  # fmt: skip
# The endings of labels: pattern, text in a table, and form in a sentence.
SUFFIXES = (
    (r"_edited", ", edited", "edited {}"),
    (r"_weighted", ", rare classes weighted", "{} with rare classes weighted"),
    (r"_augmented", ", augmented", "augmented {}"),
    (r"_tuned", ", tuned", "tuned {}"),
    (r"_permuted", ", permuted pixels", "{} on permuted pixels"),
    (r"_n(\d+)", lambda match: f", {int(match[1]):,} training images", "{} on {} images"),
    (r"_(\d+)_epochs", r", \1 epochs", "{} of {} epochs"),
    (r"_k(\d+)to(\d+)", r", \1x\1 to \2x\2 kernels", "{} with mixed kernels"),
    (r"_k(\d+)", r", \1x\1 kernels", "{} with {}-pixel kernels"),
)
# The parts of a label: Mars or not, family, layer widths, ending.
LABEL = re.compile(r"(mars_)?(dense|cnn|gap|pretrained)((?:_\d+(?!\d*_epochs))*)(.*)")
NOUNS = {"dense": "dense network", "cnn": "CNN", "gap": "pooled CNN", "pretrained": "pretrained network"}


def family(label):
    """'cnn_32_64_128' -> 'the CNN', 'dense_128_64' -> 'the dense network'."""
    match = LABEL.fullmatch(label)
    return f"the {NOUNS[match[2]]}" if match else short(label)


def short(label):
    """A variant's name in a sentence: 'cnn_32_64_k5' -> 'the CNN with five-pixel kernels', else by first-layer width.

    An unrecognised label is returned unchanged.
    """
    if label.endswith(VOTE):
        return f"the vote of {short(label.removesuffix(VOTE))}"
    match = LABEL.fullmatch(label)
    if not match:
        return OTHERS[label][1] if label in OTHERS else label
    mars, kind, widths, rest = match.groups()
    for pattern, _, text in SUFFIXES:
        if found := re.search(pattern, rest):
            return "the " + text.format(NOUNS[kind], *(spelled(int(number)) for number in found.groups()))
    first = widths.strip("_").split("_")[0]
    width = f"{first}-{'unit' if kind == 'dense' else 'filter'} " if first and not mars else ""
    return f"the {width}{NOUNS[kind]}"


def readable(label):
    """A variant's label written out: 'cnn_32_64_k3' -> 'CNN 32-64, 3x3 kernels'.

    An unrecognised label is returned unchanged.
    """
    if label.endswith(VOTE):
        return f"{readable(label.removesuffix(VOTE))}, vote"
    match = LABEL.fullmatch(label)
    if not match:
        return OTHERS[label][0] if label in OTHERS else label
    mars, family, widths, rest = match.groups()
    for pattern, text, _ in SUFFIXES:
        rest = re.sub(pattern, text, rest)
    name = f"{'Mars ' if mars else ''}{FAMILIES[family]} {widths.strip('_').replace('_', '-')}".strip()
    return name + rest.replace("_", " ")


def from_to(low, high, write):
    """'46.1% to 47.2%': two numbers, each formatted by `write`; '' where there is no interval."""
    return "" if math.isnan(low) else f"{write(low)} to {write(high)}"
