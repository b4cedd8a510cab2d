"""Where in an image an answer rests."""

import numpy as np

# Side of what is covered at a time, in pixels.
PATCH = 32


def occlusion_map(model, image, patch=PATCH, batch_size=25):
    """How much the probability of the answer falls when a patch of the image is covered: float32 (rows, columns).

    `image` uint8 (height, width, channels), whose sides `patch` divides; what is covered gets the image's mean colour.
    `batch_size`: covered images that are answered at once. Raises ValueError for sides that it does not divide.
    Source: Zeiler and Fergus, Visualizing and understanding convolutional networks (ECCV 2014), section 4.2.
    """
    height, width, _ = image.shape
    if height % patch or width % patch:
        raise ValueError(f"patch is {patch}; expected a divisor of the image's sides, {height} and {width} pixels")
    places = [(top, left) for top in range(0, height, patch) for left in range(0, width, patch)]
    covered = np.repeat(image[None], len(places), axis=0)
    for one, (top, left) in zip(covered, places, strict=True):
        one[top : top + patch, left : left + patch] = image.mean(axis=(0, 1)).round()
    (whole,) = model.predict_on_batch(image[None])
    starts = range(0, len(covered), batch_size)
    answers = np.concatenate([model.predict_on_batch(covered[i : i + batch_size]) for i in starts])
    return (whole.max() - answers[:, whole.argmax()]).reshape(height // patch, width // patch).astype("float32")
