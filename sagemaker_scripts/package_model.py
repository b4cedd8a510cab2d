"""Pack a trained .keras model as model.tar.gz for SageMaker's TensorFlow Serving image.

The archive is laid out as that image expects it:

  <name>/<digits>/saved_model.pb, variables/     the SavedModel
  code/inference.py, code/reading/               the handlers, and the request parser
  code/model_card.json                           input shape, class names, metrics
  code/examples/                                 pictures for the page of serve_local.py, if any are given

It is verified before it gets its name, so that no archive is written that the container would
refuse. The same model packed twice, by the same versions of Keras and TensorFlow, gives the same
bytes.
"""

import argparse
import gzip
import hashlib
import io
import json
import re
import shutil
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path

from cnnlab import training
from cnnlab.machine import atomic_file, import_keras, release
from sagemaker_scripts import common
from sagemaker_scripts.common import BadArgumentsError
from sagemaker_scripts.serving import classifier
from sagemaker_scripts.serving.archive import CARD, EXAMPLES, HANDLERS, READING
from sagemaker_scripts.serving.verify import verify

HERE = Path(__file__).resolve().parent
# How a picture is resized for the model: letterboxed or not, like its training images.
RESIZING = {
    True: "centred on black at the input size: bicubic, antialiased, aspect ratio kept",
    False: "stretched to the input size: bilinear, antialiased, aspect ratio not kept",
}
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")
METRIC = re.compile(r"(train|val|test)_(accuracy|loss)_(best|last)")
# Example pictures: how many; longest side in pixels, lossless up to the second; JPEG quality; longest name.
MOST_EXAMPLES = 12
LARGEST, LOSSLESS = 320, 64
QUALITY = 85
LONGEST_NAME = 40


def package(
    model_path, output_path="model.tar.gz", name=None, class_names=None, row=None, size=None, pixels="bytes",
    examples=(),
):  # fmt: skip
    """Pack the classifier `model_path` (.keras) and return the Path of the verified archive.

    `name`: the model's name in TensorFlow Serving (default: the Keras model's name);
    `class_names`: one for each output (default: those of `row`, or of the data set that it names);
    they have to be the names that the model was trained with, if these are known;
    `row`: the trial that trained it, a dict or the path of its JSON row (default: the one in the
    model file, else the one of the file's name in results/trials, or the only one in trials/ beside
    the file, as train.py leaves it; if there is none, no row);
    `size`: (height, width) to resize pictures to, for a model that takes any size; `pixels`: a key
    of `classifier.PIXELS`, what the model takes if its pictures were scaled outside it;
    `examples`: paths of a few pictures, or of a folder of them, that the local server's page offers.
    A single sigmoid output becomes two: the first class gets one minus its probability.
    Raises BadArgumentsError for an unsuitable model, name, classes or pictures, and ArchiveError if
    the packed model does not start or answers differently; then nothing is written.
    """
    from cnnlab import data

    model_path, output_path = Path(model_path), Path(output_path)
    import_keras()
    row, own = classifier.read_row(row, model_path), training.row_within(model_path)
    release()
    model = classifier.load(model_path, size, pixels)
    name = name or model.name
    if not NAME.fullmatch(name) or name == "code":
        raise BadArgumentsError(f"name is {name!r}; expected a letter, then up to 62 of A-Z a-z 0-9 - _; not 'code'")
    if row.get("permute_pixels") is not None:
        raise BadArgumentsError("the model was trained on permuted pixels and would misread every real picture")
    letterbox = data.is_letterboxed(row.get("dataset") or "")
    names = classifier.class_names(class_names, row, model.output_shape[1])
    pictures = read_examples(examples)
    card = model_card(model, name, names, row, letterbox, pictures)
    output_path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(output_path) as partial:
        with tempfile.TemporaryDirectory(prefix="package-") as folder:
            _stage(model, card, Path(folder), letterbox, pictures)
            _pack(folder, partial)
        verify(partial, model, own.get("class_names") or row.get("class_names"))
    del model
    release()
    return output_path


def read_examples(paths):
    """{file name: content} of the picture files `paths`, or of those in a folder, in their order.

    Upright, on white, at most LARGEST pixels wide and high, as PNG or JPEG, and stripped of metadata
    such as a place. Raises BadArgumentsError for a file that is not a picture, or for too many.
    """
    files = [file for path in map(Path, paths) for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    files = [file for file in files if not file.name.startswith(".")]
    if len(files) > MOST_EXAMPLES:
        raise BadArgumentsError(f"{len(files)} example pictures; give at most {MOST_EXAMPLES}")
    found = {}
    for file in files:
        kind, content = _small_picture(file)
        name = re.sub(r"[^A-Za-z0-9]+", "_", file.stem).strip("_")[:LONGEST_NAME] or "picture"
        if f"{name}.{kind}" in found:
            name = f"{name}_{len(found)}"
        found[f"{name}.{kind}"] = content
    return found


def model_card(model, name, class_names, row, letterbox=False, examples=()):
    """What the archive says about itself, as a dict for JSON: nothing that changes from one packing to the next."""
    from cnnlab.measures import explained_layer

    explained = explained_layer(model)
    return {
        "name": name,
        "input_shape": list(model.input_shape[1:]),
        "class_names": class_names,
        "pixels": "0 to 255; the model rescales them itself",
        "pictures": f"turned as EXIF says, on white where transparent, {RESIZING[letterbox]}",
        "grad_cam": explained and {"layer": explained[0].name, "size": list(explained[1])},
        "examples": list(examples),
        "parameters": model.count_params(),
        "weights_sha256": _weights_sha256(model),
        "metrics": {key: value for key, value in row.items() if METRIC.fullmatch(key)},
        "data": {"name": row.get("dataset"), "version": row.get("data_version")},
        "training": {key: row.get(key) for key in ("key", "label", "seed", "epochs_trained", "protocol")},
        "packed_with": {package: version(package) for package in ("keras", "tensorflow")},
    }


def make_parser():
    parser = common.parser(__doc__)
    parser.add_argument("model", help="the .keras file")
    parser.add_argument("--output", default="model.tar.gz", help="archive to write (default: %(default)s)")
    parser.add_argument("--name", help="name of the model in TensorFlow Serving (default: the Keras model's)")
    parser.add_argument("--classes", help="class names, separated by commas, or a file with one per line")
    parser.add_argument(
        "--row", help="JSON row of the trial that trained it (default: found by the model file's name or place)"
    )
    parser.add_argument(
        "--size", type=_size, metavar="PIXELS", help="for a model that takes any size: 32, or 24x32 (height x width)"
    )
    parser.add_argument(
        "--pixels",
        choices=classifier.PIXELS,
        default="bytes",
        help="what the model takes: bytes, 0..255; or, if scaled outside it, unit, 0..1, or signed, -1..1",
    )
    parser.add_argument(
        "--examples", nargs="+", default=[], metavar="PICTURE",
        help=f"at most {MOST_EXAMPLES} pictures, or a folder of them, for the page of serve_local.py",
    )  # fmt: skip
    return parser


def main(argv=None):
    options = make_parser().parse_args(argv)
    classes = _split_classes(options.classes)
    path = package(
        options.model, options.output, options.name, classes, options.row, options.size, options.pixels,
        options.examples,
    )  # fmt: skip
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, SHA-256 {_sha256(path)}")
    print("verified: layout, start without any package, same predictions as the original")
    common.print_next(f"python sagemaker_scripts/serve_local.py {path}", "try it here")
    common.print_next(f"python sagemaker_scripts/deploy.py --archive {path}", "or on SageMaker")


def _pack(folder, path):
    """Write all files under `folder` to the gzipped tar `path`: the same files and zlib give the same bytes.

    Members are sorted and carry no time, owner or mode from this machine.
    """
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for file in sorted(file for file in Path(folder).rglob("*") if file.is_file()):
            member = tarfile.TarInfo(file.relative_to(folder).as_posix())
            member.size, member.mode = file.stat().st_size, 0o644
            with file.open("rb") as content:
                tar.addfile(member, content)


def _stage(model, card, folder, letterbox, examples):
    from sagemaker_scripts.serving import savedmodel

    savedmodel.export(model, folder / card["name"] / "1", letterbox)
    (folder / "code").mkdir()
    shutil.copyfile(HERE / "inference.py", folder / HANDLERS)
    shutil.copytree(HERE / "reading", folder / READING, ignore=shutil.ignore_patterns("__pycache__"))
    for name, content in examples.items():
        (folder / EXAMPLES).mkdir(exist_ok=True)
        (folder / EXAMPLES / name).write_bytes(content)
    (folder / CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _small_picture(path):
    """("png" or "jpg", content) of a picture file."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            picture = ImageOps.exif_transpose(opened).convert("RGBA")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise BadArgumentsError(f"{path} cannot be read as an example picture: {error}") from None
    white = Image.new("RGBA", picture.size, "white")
    picture = Image.alpha_composite(white, picture).convert("RGB")
    picture.thumbnail((LARGEST, LARGEST))
    content = io.BytesIO()
    if max(picture.size) <= LOSSLESS:
        picture.save(content, "PNG")
        return "png", content.getvalue()
    picture.save(content, "JPEG", quality=QUALITY)
    return "jpg", content.getvalue()


def _split_classes(text):
    if text is None:
        return None
    lines = Path(text).read_text(encoding="utf-8").splitlines() if Path(text).is_file() else text.split(",")
    return [line.strip() for line in lines if line.strip()]


def _size(text):
    """(height, width) from "32" or "24x32"."""
    if not re.fullmatch(r"0*[1-9]\d*(x0*[1-9]\d*)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size in pixels; expected one like 32, or 24x32")
    height, _, width = text.partition("x")
    return int(height), int(width or height)


def _weights_sha256(model):
    """SHA-256 of the numbers alone: a .keras file also holds the time at which it was saved."""
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(weight.tobytes())
    return digest.hexdigest()


def _sha256(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    sys.exit(common.run(main))
