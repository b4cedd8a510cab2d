"""Figures of one training."""

from matplotlib.ticker import MaxNLocator

from cnnlab.figures.style import BLUE, LIGHT_GREY, VERMILLION, legend_below, new_figure, percent, styled

_CURVES = {
    "": ("training (during the epoch)", VERMILLION, "s", "--"),
    "val_": ("validation (after it)", BLUE, "o", "-"),
}


@styled
def training_curves(history, best_epoch, title):
    """Accuracy and loss against the epoch, on training and validation images.

    `history`: {"accuracy", "loss", "val_accuracy", "val_loss"} to one value an epoch; `best_epoch`:
    the epoch, from 1, whose weights were chosen on validation; `title` names the network.
    """
    figure, axes = new_figure(height=3.8, columns=2)
    epochs = range(1, len(history["loss"]) + 1)
    for axis, quantity in zip(axes, ("accuracy", "loss"), strict=True):
        axis.axvline(best_epoch, color=LIGHT_GREY, linewidth=6, zorder=0, label=f"best epoch ({best_epoch})")
        for prefix, (name, colour, marker, line) in _CURVES.items():
            axis.plot(epochs, history[prefix + quantity], color=colour, marker=marker, linestyle=line, label=name)
        axis.set(xlabel="epoch", xlim=(0.5, len(epochs) + 0.5), title=quantity.capitalize())
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.grid(True, axis="y")
    percent(axes[0].yaxis)
    axes[0].set_ylim(0, 1)
    axes[0].set_ylabel("accuracy")
    axes[1].set_ylabel("cross-entropy (nats)")
    axes[1].set_ylim(0, 1.05 * max(history["loss"] + history["val_loss"]))
    figure.suptitle(title)
    legend_below(figure, axes[0], ncols=3)
    return figure
