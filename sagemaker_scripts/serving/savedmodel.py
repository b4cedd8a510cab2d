"""A Keras classifier as a TensorFlow SavedModel: the served signatures, and always the same bytes."""

import functools
import re
from pathlib import Path

import tensorflow as tf
from google.protobuf.descriptor import FieldDescriptor
from tensorflow.core.protobuf import saved_model_pb2

from cnnlab.measures import explained, explained_layer

OUTPUT, MAP = "probabilities", "grad_cam"
# A second name of a function's argument, for debugging.
ARGUMENT_NAME = "_user_specified_name"
# The counter that TensorFlow puts at the end of a function's name, and the fields that may hold such a name.
COUNTER = re.compile(r"_\d")
TEXTS = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)
COLOURS = 3
LUMA = (0.299, 0.587, 0.114)
# More bytes than any string has.
LONGEST = 2**30
END_OF_IMAGE = b"\xff\xd9"
# Bytes as in coded data, none of which would stop a decoder.
FILLING = bytes(range(1, 200, 3))


def export(model, folder, letterbox=False):
    """Write `model`, (n, height, width, channels) in 0..255 to (n, classes), as a SavedModel.

    Signatures, each answering {"probabilities": float32 (n, classes)}:
    - serving_default(pixels): float32 (n, height, width, channels) in 0..255;
    - serve_uint8(pixels): strings (n,), each the uint8 values of one image in C order;
    - serve_image(images): strings (n,), each a PNG, JPEG, GIF or WEBP file of any size, resized
      for the model by `stretched` or, with `letterbox`, by `boxed`, like the training images.
      Three bytes before the file say how to decode it, see `decoded`; without them it is
      opaque and upright.
    decode_image(images), with the same strings, answers {"pixels": float32 (n, height, width,
    channels)}: the pictures as the model sees them. If the model has a convolution,
    explain(pixels) and explain_image(images) answer {"probabilities", "grad_cam": float32
    (n, rows, columns)}: see `cnnlab.measures.explained`.

    Not `keras.export.ExportArchive`: it numbers variables in the order of a set and keeps the
    seeds of dropout layers, so that no two exports have the same bytes.
    """
    module = tf.Module()
    module.weights = [weight.value for weight in model.weights]
    tf.saved_model.save(
        module,
        str(folder),
        signatures=_signatures(model, boxed if letterbox else stretched),
        options=tf.saved_model.SaveOptions(save_debug_info=False),
    )
    _normalise(Path(folder))


def stretched(picture, height, width):
    """`picture` (any, any, channels) as float32 (height, width, channels): bilinear, antialiased."""
    return tf.image.resize(picture, (height, width), method="bilinear", antialias=True)


def boxed(picture, height, width):
    """`picture` (any, any, channels) as float32 (height, width, channels): aspect ratio kept, centred on black.

    Bicubic, antialiased, in whole numbers from 0 to 255: Pillow's result, but for rounding.
    """
    original = tf.shape(picture)[:2]
    by = tf.reduce_max(tf.cast(original, "float64") / (height, width))
    size = tf.maximum(tf.cast(tf.round(tf.cast(original, "float64") / by), "int32"), 1)
    resized = tf.image.resize(picture, size, method="bicubic", antialias=True)
    above, left = (height - size[0]) // 2, (width - size[1]) // 2
    return tf.image.pad_to_bounding_box(tf.round(tf.clip_by_value(resized, 0, 255)), above, left, height, width)


def decoded(data):
    """A picture file (a string) as uint8 (height, width, 3), upright and on white.

    Three bytes before the file say how: its EXIF orientation, 1 to 8; an index into `_DECODERS`;
    and whether a JPEG's end marker was missing, so that more may be missing and has to be checked.
    No file begins with a byte as low as the first of these.
    """
    marks = tf.cast(tf.io.decode_raw(data, "uint8", fixed_length=3), "int32")
    is_marked = (marks[0] >= 1) & (marks[0] <= len(_TURNS))
    orientation, decoder, unfinished = tf.unstack(tf.where(is_marked, marks, [1, 0, 0]))
    file = tf.strings.substr(data, tf.where(is_marked, 3, 0), LONGEST)
    picture = _picture(file, decoder)
    with tf.control_dependencies([tf.cond(unfinished > 0, lambda: _is_whole(file, decoder, picture), lambda: True)]):
        picture = tf.identity(picture)
    return tf.switch_case(orientation - 1, [lambda turn=turn: turn(picture) for turn in _TURNS])


def grey(picture):
    """uint8 (height, width, 3) as uint8 (height, width, 1): luma of ITU-R BT.601, as in JPEG."""
    luma = tf.reduce_sum(tf.cast(picture, "float32") * LUMA, axis=-1, keepdims=True)
    return tf.cast(tf.round(luma), "uint8")


def on_white(picture):
    """uint8 (height, width, 4), the last channel being opacity, as uint8 (height, width, 3).

    Row by row: the product of two bytes takes two, which adds up for a large picture.
    """

    def row(pixels):
        wide = tf.cast(pixels, "uint16")
        colours, opacity = wide[:, :COLOURS], wide[:, COLOURS:]
        return tf.cast((colours * opacity + 255 * (255 - opacity) + 127) // 255, "uint8")

    return tf.map_fn(row, picture, fn_output_signature=tf.TensorSpec((None, COLOURS), "uint8"))


def _picture(file, decoder):
    return tf.switch_case(decoder, [lambda decode=decode: decode(file) for decode in _DECODERS])


def _any_kind(file, channels):
    picture = tf.io.decode_image(file, channels=channels, expand_animations=False)
    picture.set_shape((None, None, channels))
    return picture


def _is_whole(file, decoder, picture):
    """Fail if a JPEG's data is cut off.

    A decoder stops at the end of the picture and fills in what is missing: whatever follows the
    data makes a difference only if something is missing.
    """
    end = tf.strings.length(file) - len(END_OF_IMAGE)
    longer = tf.strings.join([tf.strings.substr(file, 0, end), FILLING, END_OF_IMAGE])
    same = tf.reduce_all(picture == _picture(longer, decoder))
    with tf.control_dependencies([tf.debugging.assert_equal(same, True, "the JPEG is cut off")]):
        return tf.identity(same)


# How a picture is decoded; the JPEG decoder can skip pixels as it goes.
_DECODERS = (
    lambda file: _any_kind(file, COLOURS),
    lambda file: on_white(_any_kind(file, COLOURS + 1)),
    *(lambda file, ratio=ratio: tf.io.decode_jpeg(file, channels=COLOURS, ratio=ratio) for ratio in (2, 4, 8)),
)
# EXIF's orientations, from 1: at which edges the picture's first row and column lie (EXIF 2.32, tag 274).
_TURNS = (
    lambda picture: picture,
    lambda picture: picture[:, ::-1],
    lambda picture: picture[::-1, ::-1],
    lambda picture: picture[::-1],
    lambda picture: tf.transpose(picture, (1, 0, 2)),
    lambda picture: tf.transpose(picture, (1, 0, 2))[:, ::-1],
    lambda picture: tf.transpose(picture, (1, 0, 2))[::-1, ::-1],
    lambda picture: tf.transpose(picture, (1, 0, 2))[::-1],
)


def _signatures(model, resize):
    height, width, channels = model.input_shape[1:]

    image = tf.TensorSpec((height, width, channels), "float32")
    pixels = tf.TensorSpec((None, *image.shape), "float32", name="pixels")
    files = tf.TensorSpec((None,), "string", name="images")

    def from_file(data):
        picture = decoded(data)
        picture = picture if channels == COLOURS else grey(picture)
        return tf.ensure_shape(resize(picture, height, width), image.shape)

    # Shared by the signatures: the network and the picture decoding are traced, stored and loaded only once.
    @tf.function(input_signature=[pixels], autograph=False)
    def from_pixels(pixels):
        return {OUTPUT: model(pixels, training=False)}

    def from_bytes(pixels):
        flat = tf.io.decode_raw(pixels, "uint8", fixed_length=height * width * channels)
        return from_pixels(tf.cast(tf.reshape(flat, (-1, *image.shape)), "float32"))

    @tf.function(input_signature=[files], autograph=False)
    def to_pixels(images):
        return {"pixels": tf.map_fn(from_file, images, fn_output_signature=image)}

    def from_files(images):
        return from_pixels(**to_pixels(images))

    @tf.function(input_signature=[pixels], autograph=False)
    def explain(pixels):
        return dict(zip((OUTPUT, MAP), explained(model, layer, pixels), strict=True))

    def explain_files(images):
        return explain(**to_pixels(images))

    functions = {
        "serving_default": (from_pixels, pixels),
        "serve_uint8": (from_bytes, tf.TensorSpec((None,), "string", name="pixels")),
        "serve_image": (from_files, files),
        "decode_image": (to_pixels, files),
    }
    if found := explained_layer(model):
        layer, _ = found
        functions |= {"explain": (explain, pixels), "explain_image": (explain_files, files)}
    return {
        name: tf.function(function, input_signature=[signature], autograph=False)
        for name, (function, signature) in functions.items()
    }


def _normalise(folder):
    """Remove from a SavedModel whatever differs between two exports of one model.

    TensorFlow names graph functions, and the variables that they capture, by a process-wide
    counter: functions get their rank as a number instead, arguments lose this second name.
    fingerprint.pb holds a random identifier, is optional, and is deleted.
    """
    (folder / "fingerprint.pb").unlink(missing_ok=True)
    path = folder / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    library = saved.meta_graphs[0].graph_def.library
    for function in library.function:
        for argument in function.arg_attr.values():
            if ARGUMENT_NAME in argument.attr:
                del argument.attr[ARGUMENT_NAME]
    _rename(saved, _renaming(_ranked_names([function.signature.name for function in library.function])))
    library.function.sort(key=lambda function: function.signature.name)
    path.write_bytes(saved.SerializeToString(deterministic=True))


def _ranked_names(names):
    """{"some_function_1758": "some_function_0003", ...}: the counter replaced by its rank."""
    pairs = sorted((name.rpartition("_") for name in names), key=lambda parts: int(parts[2]))
    return {f"{stem}_{counter}": f"{stem}_{rank:04d}" for rank, (stem, _, counter) in enumerate(pairs)}


def _rename(message, new):
    """Replace each text, name and key within a protocol buffer message by `new`(text)."""
    for field, value in list(message.ListFields()):
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            _rename_map(value, field.message_type.fields_by_name["value"], new)
        elif field.type == field.TYPE_MESSAGE:
            for part in value if field.is_repeated else (value,):
                _rename(part, new)
        elif field.type in TEXTS:
            if field.is_repeated:
                value[:] = map(new, value)
            elif (renamed := new(value)) != value:
                setattr(message, field.name, renamed)


def _rename_map(entries, field, new):
    for key in list(entries):
        name = new(key) if isinstance(key, str) else key
        if field.type == field.TYPE_MESSAGE:
            _rename(entries[key], new)
            if name != key:
                entries[name].CopyFrom(entries[key])
        else:
            entries[name] = new(entries[key]) if field.type in TEXTS else entries[key]
        if name != key:
            del entries[key]


def _renaming(names):
    """A function that replaces each key of `names` in a text (str or bytes) by its value.

    Within longer texts too: a loop's arguments are named after the loop's functions.
    """
    pattern = re.compile(rf"({'|'.join(map(re.escape, names))})(?!\d)")

    @functools.cache
    def new(text):
        if isinstance(text, bytes):
            # Latin-1 has one character per byte.
            return new(text.decode("latin-1")).encode("latin-1")
        return pattern.sub(lambda match: names[match[1]], text) if COUNTER.search(text) else text

    return new
