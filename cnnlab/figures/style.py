"""How every figure of the lab looks: colours, markers, sizes and axes that read in print and in grey."""

import functools
from math import ceil

from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

# Okabe and Ito, "Color Universal Design" (2008): told apart by colour-blind readers. Their
# yellow, which vanishes on white paper, is left out.
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000",
)  # fmt: skip
COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)
GREY, LIGHT_GREY = "#666666", "#D0D0D0"
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "h", "p")
LINES = ("-", "--", "-.", ":")
# Perceptually uniform, and made for colour-blind readers (Nunez, Anderton and Renslow, PLOS ONE 2018).
HEAT = "cividis"

# Inches that a page or a README shows at its full width; text is set for that size.
WIDTH = 8.0
SMALL = 9
# Inches kept free at the bottom of every figure for the small print that says what produced it.
STRIP = 0.24
STYLE = {
    "font.family": "DejaVu Sans",  # Ships with matplotlib: the same picture on every machine.
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#E3E3E3",
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "image.interpolation": "nearest",
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "figure.titlesize": 12,
    "figure.titleweight": "bold",
    "hatch.linewidth": 0.6,
}


def in_style():
    """Context with the lab's style, and matplotlib's defaults for the rest; the reader's settings come back after."""
    return style.context(["default", STYLE])


def styled(draw):
    """Decorator: a function that draws does so `in_style`."""

    @functools.wraps(draw)
    def draw_in_style(*args, **options):
        with in_style():
            return draw(*args, **options)

    return draw_in_style


def blank_figure(height, width=WIDTH):
    """An empty Figure of `width` x `height` inches, and a strip below for the small print.

    It is not registered with pyplot: nothing piles up in memory, and a notebook shows it where
    it is asked to and not once more by itself.
    """
    total = height + STRIP
    layout = ConstrainedLayoutEngine(rect=(0, STRIP / total, 1, height / total), w_pad=0.08, h_pad=0.07)
    return Figure(figsize=(width, total), layout=layout)


def new_figure(height, width=WIDTH, rows=1, columns=1, **options):
    """(blank_figure, its axes); `options` are those of `Figure.subplots`."""
    figure = blank_figure(height, width)
    return figure, figure.subplots(rows, columns, **options)


def new_grid(count, columns, cell_height, width=WIDTH):
    """(Figure, flat array of `count` image axes without ticks) in rows of `columns`; `cell_height` in inches."""
    rows = ceil(count / columns)
    figure, axes = new_figure(rows * cell_height, width, rows, columns, squeeze=False)
    for axis in axes.flat:
        bare(axis)
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    return figure, axes.flat[:count]


def bare(axis):
    """`axis` without ticks and frame, for a picture; returned."""
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    return axis


def legend_below(figure, axis, **options):
    """What `axis` names, as a legend under all axes of `figure` and above its strip."""
    height = figure.get_figheight()
    legend = figure.legend(
        *axis.get_legend_handles_labels(), loc="lower center", bbox_to_anchor=(0.5, STRIP / height), **options
    )
    # The layout makes room for a legend at the very edge of a figure, but not above a strip.
    bottom = (STRIP + legend.get_window_extent().height / figure.dpi) / height
    figure.get_layout_engine().set(rect=(0, bottom, 1, 1 - bottom))


def percent(axis):
    """Show a fraction 0..1 along `axis` (an `xaxis` or `yaxis`) as percent, and draw its grid."""
    # Rounded first, for a tick at zero may be 1e-17.
    axis.set_major_formatter(lambda value, _: f"{round(100 * value, 6):g}%")
    axis.grid(True)


def class_marks(count):
    """`count` (colour, marker) pairs, each pair different and neighbours different in both."""
    pairs = [(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i in range(len(COLOURS) * len(MARKERS))]
    if count > len(pairs):
        raise ValueError(f"{count} classes; expected at most {len(pairs)} that can be told apart")
    return pairs[:count]


def shape_text(shape):
    """(32, 32, 3) as "32×32×3"."""
    return "×".join(str(size) for size in shape)
