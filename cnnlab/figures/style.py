"""How every figure of the lab looks, also in greyscale print; and the one way to a file."""

import base64
import dataclasses
import html
import io
from math import ceil
from pathlib import Path

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

from cnnlab.figures.alternative_texts import alternative_text

# Okabe and Ito, "Color Universal Design" (2008): told apart by colour-blind readers. Their
# yellow, which vanishes on white paper, is left out.
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000",
)  # fmt: skip
COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)
GREY, LIGHT_GREY = "#666666", "#D0D0D0"
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "h", "p")
LINES = ("-", "--", "-.", ":")
HATCHES = ("", "///", "...", "xx")
# Perceptually uniform, and made for colour-blind readers (Nunez, Anderton and Renslow, PLOS ONE 2018).
HEAT = "cividis"

# Inches of the full width of a page or a README; text is sized for that.
WIDTH = 8.0
SMALL = 9
# Sharp in print at the width of a page, and still a small file.
DOTS_PER_INCH = 150
# Inches kept free at the bottom of every figure for the small print that says what produced it.
STRIP = 0.24
# Pixels at which a notebook shows the full width of a page.
SHOWN = 800
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
_STAMP = "budget stamp"


def in_style():
    """Context manager, or decorator of a function that draws: the lab's style over matplotlib's defaults.

    The reader's settings come back afterwards.
    """
    return style.context(["default", STYLE])


def blank_figure(height, width=WIDTH):
    """An empty Figure of `width` x `height` inches, and a strip below for the small print.

    It is not registered with pyplot: nothing piles up, and a notebook shows it only where asked to.
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
    """`axis` without ticks or frame, for a picture; returned."""
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    return axis


def legend_below(figure, axis, **options):
    """Put the labels of `axis` in a legend under all axes of `figure` and above its strip."""
    height = figure.get_figheight()
    legend = figure.legend(
        *axis.get_legend_handles_labels(), loc="lower center", bbox_to_anchor=(0.5, STRIP / height), **options
    )
    # The layout makes room for a legend at the very edge of a figure, but not above a strip.
    bottom = (STRIP + legend.get_window_extent().height / figure.dpi) / height
    figure.get_layout_engine().set(rect=(0, bottom, 1, 1 - bottom))


def percent(axis):
    """Show a fraction 0..1 along `axis` (an `xaxis` or `yaxis`) as percent, and draw its grid."""
    # Rounded first, because a tick at zero may be 1e-17.
    axis.set_major_formatter(lambda value, _: f"{round(100 * value, 6):g}%")
    axis.grid(True)


def error_bars(axis, places, rows, value, across=False, **look):
    """The column `value` of `rows` against `places`, with bars from its low to its high; `across`: along the x axis.

    `look`: options of `errorbar`; no line joins the points unless `linestyle` says so. NaN draws no bar.
    """
    reach = np.maximum([rows[value] - rows["low"], rows["high"] - rows[value]], 0)
    where = (rows[value], places, None, reach) if across else (places, rows[value], reach)
    return axis.errorbar(*where, **{"linestyle": "none", **look})


def shape_text(shape):
    """(32, 32, 3) as "32×32×3"."""
    return "×".join(str(size) for size in shape)


def save_figure(figure, name, folder, budget, dots_per_inch=None):
    """Write `figure` as `<folder>/<name>.png`, stamped with `budget`, and return that path.

    `name` is one that `alternative_text` knows; `budget` is a short text on what produced the data (e.g.
    `Budget.label`), which goes in small print at the bottom of the figure, so that no quick result can pass for the
    record; `dots_per_inch`: default DOTS_PER_INCH. The same picture always gives the same bytes: the file carries no
    date and no version. Raises ValueError for an unknown name or an empty budget, with nothing written.
    """
    alternative_text(name)
    if not budget or not budget.strip():
        raise ValueError(f"figure {name} has no budget; expected a text on what produced it, such as a Budget's label")
    _stamp(figure, budget)
    content, options = io.BytesIO(), {"metadata": {"Software": None}, "pil_kwargs": {"optimize": True}}
    with in_style():
        figure.savefig(content, format="png", dpi=dots_per_inch or DOTS_PER_INCH, **options)
    path = Path(folder) / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.getvalue())
    return path


@dataclasses.dataclass(frozen=True)
class FigureView:
    """A saved figure in a notebook's output: `data`, the file's bytes; `alt`, what it shows; `width` in pixels.

    It is HTML, because neither JupyterLab 4 nor nbconvert 7 shows the `alt` in the metadata of an image/png output.
    """

    data: bytes = dataclasses.field(repr=False)
    alt: str
    width: int

    def _repr_html_(self):
        source = f"data:image/png;base64,{base64.b64encode(self.data).decode()}"
        fitting = "max-width: 100%; height: auto"  # in a narrower window
        return f'<img alt="{html.escape(self.alt)}" width="{self.width}" style="{fitting}" src="{source}">'


def figure_view(path):
    """The saved figure at `path` for a notebook's output, with its alternative text, its letters the usual size.

    At most SHOWN pixels wide.
    """
    path = Path(path)
    with Image.open(path) as image:
        width = round(min(1, image.width / round(image.info["dpi"][0]) / WIDTH) * SHOWN)
    return FigureView(_small(path.read_bytes()), alternative_text(path.stem), width)


def live_view(figure, alt):
    """`figure` for a notebook's output without a file, for what a reader moves; `alt` says what it shows."""
    content = io.BytesIO()
    with in_style():
        figure.savefig(content, format="png", dpi=SHOWN / figure.get_figwidth())
    return FigureView(_small(content.getvalue()), alt, SHOWN)


def _small(png):
    """`png`, or its 256-colour version if smaller, often by more than half: a notebook holds dozens of them."""
    content = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(content, "PNG", optimize=True)
    return min(png, content.getvalue(), key=len)


def _stamp(figure, budget):
    """One line of small print in the strip of `figure`; a later stamp replaces an earlier one."""
    for text in [text for text in figure.texts if text.get_gid() == _STAMP]:
        text.remove()
    width, height = figure.get_size_inches()
    look = {"ha": "right", "va": "center", "fontsize": SMALL, "color": GREY, "gid": _STAMP}
    figure.text(1 - 0.06 / width, STRIP / 2 / height, budget, **look)
