"""Interactive widgets for the notebooks: controls above a picture that follows them.

Where no widget runs (an executed file, HTML, a page of a repository), the picture that it started with takes its
place. Numbers come from `measures` and the network, pictures from `figures`; this file only connects them.
"""

import html

import ipywidgets
import numpy as np

from cnnlab import data, figures, measures, training

# The most images that a shift is tried on: the network answers them in a tenth of a second.
SHIFTED_IMAGES = 200
# The slider's range, as powers of ten: 0.25 to 4.
TEMPERATURE_POWERS = (-0.602, 0.602)
# The largest file that a notebook server passes on by default.
LARGEST_UPLOAD = "10 MB"
# So that a control's description is not cut off.
WHOLE = {"description_width": "initial"}
STILL = "<p><small>A picture of the widget as it begins: run the notebook to move it.</small></p>"


class Movable(ipywidgets.VBox):
    """Controls, and below them a picture that is redrawn when one of them is moved.

    `draw`: takes the values of `controls`, {name: widget}, by name, and returns a matplotlib Figure; if it raises
    BadDataError, that is shown as one line. `alt`: what the picture shows, in words; `top`: a widget that holds the
    controls (None: they stand in a row). `picture` is the widget that shows the picture.
    """

    def __init__(self, draw, alt, controls, top=None):
        self._draw, self._alt, self.controls, self._held = draw, alt, controls, False
        self.picture = ipywidgets.HTML()
        super().__init__([top or ipywidgets.HBox(list(controls.values())), self.picture])
        for control in controls.values():
            control.observe(self._moved, "value")
        self._moved()

    def put(self, **values):
        """Set the controls of these names to `values`, and redraw once."""
        self._held = True
        try:
            for name, value in values.items():
                self.controls[name].value = value
        finally:
            self._held = False
        self._moved()

    def _moved(self, _=None):
        if self._held:
            return
        try:
            figure = self._draw(**{name: control.value for name, control in self.controls.items()})
        except data.BadDataError as error:
            self.picture.value = f"<p>{html.escape(str(error))}</p>"
        else:
            self.picture.value = figures.live_view(figure, self._alt)._repr_html_()

    def _repr_mimebundle_(self, **options):
        """The widget, and beside it the picture as HTML for viewers that cannot run a widget."""
        return super()._repr_mimebundle_(**options) | {"text/html": self.picture.value + STILL}


def kernel(images, begin="vertical edge"):
    """Edit a 3x3 kernel, and see it filter one of `images`, uint8 (n, height, width, channels).

    `begin`: the kernel to start with, one of `measures.KERNELS`; each has a button. Returns the widget.
    """
    places = [(row, column) for row in range(3) for column in range(3)]
    numbers = {
        f"weight_{row}_{column}": ipywidgets.BoundedFloatText(
            measures.KERNELS[begin][row][column], min=-100, max=100, step=0.5, layout={"width": "70px"}
        )
        for row, column in places
    }

    def draw(picture, **weights):
        weights = np.reshape(list(weights.values()), (3, 3))
        return figures.filtered_picture(images[picture], weights, measures.filtered(images[picture], weights))

    buttons = []
    for name, weights in measures.KERNELS.items():
        buttons.append(ipywidgets.Button(description=name, layout={"width": "130px"}))
        # Bound now, because the loop changes it.
        values = dict(zip(numbers, np.ravel(weights).tolist(), strict=True))
        buttons[-1].on_click(lambda _, values=values: widget.put(**values))
    picture = _picture_slider(images)
    grid = ipywidgets.GridBox(list(numbers.values()), layout={"grid_template_columns": "repeat(3, 76px)"})
    chosen = ipywidgets.Box(buttons, layout={"flex_flow": "row wrap", "width": "420px"})
    top = ipywidgets.HBox([grid, ipywidgets.VBox([chosen, picture])])
    alt = "A picture in grey, the nine weights of a kernel, and the filtered picture before and after a ReLU."
    widget = Movable(draw, alt, {"picture": picture, **numbers}, top)
    return widget


def shift(model, images, labels, class_names):
    """Shift one of `images` by some pixels, and see the answer of `model`, a feature map, and the accuracy.

    `images` uint8 (n, height, width, channels), `labels` (n,); all of them, SHIFTED_IMAGES at most, are shifted alike
    for the accuracy. It starts with a picture that is classified correctly in place, and wrongly 5 pixels to the right,
    if there is one. The map is one of the last convolution's; a model without one shows none. Returns the widget.
    """
    images, labels = images[:SHIFTED_IMAGES], np.asarray(labels[:SHIFTED_IMAGES])
    still, found = training.predict(model, images), measures.explained_layer(model)
    layer = found[0].name if found and found[0] in model.layers else None
    reach = min(8, *(side - 1 for side in images.shape[1:3]))
    begin = min(5, reach)
    moved = training.predict(model, measures.shift_images(images, 0, begin))
    lost = (still.argmax(axis=1) == labels) & (moved.argmax(axis=1) != labels)

    def draw(picture, right, down):
        moved = measures.shift_images(images, down, right)
        answers = training.predict(model, moved)
        shown = {f"{right} right, {down} down": moved[picture]}
        if layer:
            maps = [measures.feature_maps(model, each[picture], [layer])[layer] for each in (images, moved)]
            channel = measures.most_active(maps[0], 1)[0]
            shown |= {
                f"map {channel} of {layer}": maps[0][..., channel],
                "the map, moved": maps[1][..., channel],
            }
        shares = [np.mean(each.argmax(axis=1) == labels) for each in (still, answers)]
        title = (
            f"truth: {class_names[labels[picture]]}; of {len(images)} pictures {shares[0]:.1%} are right unmoved, "
            f"{shares[1]:.1%} moved like this"
        )
        return figures.answer_bars(shown, {"unmoved": still[picture], "moved": answers[picture]}, class_names, title)

    controls = {
        "picture": _picture_slider(images, int(lost.argmax())),
        "right": _slider("right, pixels", begin, -reach, reach),
        "down": _slider("down, pixels", 0, -reach, reach),
    }
    alt = (
        "A shifted test picture, a feature map of it before and after, and the probabilities of the likeliest classes."
    )
    return Movable(draw, alt, controls)


def temperature(probabilities, labels):
    """Move a temperature, and see what it does to confidence and calibration.

    `probabilities` (n, classes) of images whose classes are `labels` (n,). Returns the widget.
    """
    correct = probabilities.argmax(axis=1) == labels

    def draw(temperature):
        versions = {"as trained": probabilities}
        versions[f"temperature {temperature:.2f}"] = measures.apply_temperature(probabilities, temperature)
        confidences = {
            f"{name}, error {measures.expected_calibration_error(each.max(axis=1), correct):.1%}": each.max(axis=1)
            for name, each in versions.items()
        }
        bins = {name: measures.reliability_bins(each, correct) for name, each in confidences.items()}
        return figures.confidence_moved(bins, confidences)

    low, high = TEMPERATURE_POWERS
    look = {"description": "temperature", "style": WHOLE, "readout_format": ".2f", "continuous_update": False}
    slider = ipywidgets.FloatLogSlider(2.0, min=low, max=high, step=0.01, **look)
    alt = "Accuracy against confidence, and how many images have which confidence, as trained and at a temperature."
    return Movable(draw, alt, {"temperature": slider})


def attribution(model, images, class_names):
    """See which parts of one of `images`, uint8 (n, height, width, channels), support the answer of `model` or another.

    The map for a class that the reader chooses, at first the runner-up of the first picture, beside the answer's map.
    The reader also chooses the kind of map from `measures.maps_of(model)`. Returns the widget.
    """
    answers = training.predict(model, images)

    def draw(picture, kind, asked):
        probabilities = answers[picture]
        classes = {"says": int(probabilities.argmax()), "asked for": asked}
        pair = np.stack([images[picture]] * len(classes))
        maps = {kind: measures.MAPS[kind](model, pair, list(classes.values()))}
        said = [f"{what} {class_names[place]}, {probabilities[place]:.0%}" for what, place in classes.items()]
        return figures.attribution(pair, maps, said)

    runner_up = int(np.argsort(-answers[0], kind="stable")[1])
    options = [(name, place) for place, name in enumerate(class_names)]
    controls = {
        "picture": _picture_slider(images),
        "kind": ipywidgets.Dropdown(options=measures.maps_of(model), value="occlusion", description="map"),
        "asked": ipywidgets.Dropdown(options=options, value=runner_up, description="class"),
    }
    alt = "A test picture, and where on it speaks for the network's answer and for a class that was asked for."
    return Movable(draw, alt, controls)


def own_picture(model, class_names, example):
    """Upload a picture, and see how `model` answers it; at first, `example` (height, width, channels).

    The picture is turned upright and padded to a square with black, as `data.decode_picture` does; a file that is not
    a picture gets one line. Returns the widget.
    """
    side = model.input_shape[1]

    def draw(files):
        image, caption = example, "a test picture"
        for file in files:
            try:
                image, caption = data.decode_picture(bytes(file["content"]), side)[0], "your picture"
            except data.BadDataError as error:
                raise data.BadDataError(f"{file['name']} {error}") from None
        answer = training.predict(model, image[None])[0]
        title = f"{class_names[answer.argmax()]}, {answer.max():.0%}"
        return figures.answer_bars(
            {f"{caption}, as the network sees it": image}, {"answer": answer}, class_names, title
        )

    upload = ipywidgets.FileUpload(
        accept="image/*", description=f"your picture, up to {LARGEST_UPLOAD}", layout={"width": "240px"}
    )
    return Movable(draw, "A picture as the network sees it, and the likeliest classes.", {"files": upload})


def _picture_slider(images, begin=0):
    return _slider("picture", begin, 0, len(images) - 1)


def _slider(description, value, low, high):
    """A slider that acts on release: a picture takes a tenth of a second, and a drag passes many values."""
    return ipywidgets.IntSlider(value, low, high, description=description, style=WHOLE, continuous_update=False)
