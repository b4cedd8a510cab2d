"""Send real test images to an endpoint or a local server and compare its answers with the truth.

Prints truth, answer, confidence and latency for the first images, then the accuracy over the
sample, and the median and 95th percentile of the latency as seen from this machine.
"""

import base64
import io
import json
import math
import sys
import time

import numpy as np

from cnnlab import measures
from cnnlab.machine import whole_number
from sagemaker_scripts import common
from sagemaker_scripts.common import ScriptError

SAMPLE = 200
SHOWN = 10
TIMEOUT_SECONDS = 60


class RefusedError(Exception):
    """The server answered one request with a 4xx or 5xx status: the text says which and why."""


def check(images, labels, class_names, url=None, endpoint=None, session=None, form="npy"):
    """Send each of `images` in a request of its own, and return the answers as a DataFrame.

    `images`: uint8 (n, height, width, channels), and their `labels` (n,), indices into
    `class_names`; `url` of a local server, or the name of a SageMaker `endpoint` (`session`: the
    boto3.Session to ask it with); `form`: a key of ENCODERS.
    Columns: truth and answer (class names; answer is None if the request was refused),
    confidence, correct, milliseconds, error (text or None).
    Raises ScriptError if nothing answers or another model does; DeniedError if AWS denies
    access.
    """
    import pandas as pd

    if (url is None) == (endpoint is None):
        raise common.BadArgumentsError("give either the url of a server or the name of an endpoint")
    kind, encode = ENCODERS[form]
    ask = _url_asker(url, kind) if url else _endpoint_asker(endpoint, session, kind)
    rows = []
    for image, label in zip(images, labels, strict=True):
        body = encode(image)
        begin = time.perf_counter()
        try:
            prediction, error = read_prediction(ask(body), class_names), None
        except RefusedError as refusal:
            prediction, error = {}, str(refusal)
        rows.append(
            {
                "truth": class_names[label],
                "answer": prediction.get("predicted_class"),
                "confidence": prediction.get("confidence", np.nan),
                "correct": prediction.get("predicted_class_index") == label,
                "milliseconds": 1000 * (time.perf_counter() - begin),
                "error": error,
            }
        )
    return pd.DataFrame(rows)


def ask_server(url, shape):
    """The prediction of a local server at `url` for one made-up picture of `shape`, as a dict.

    Raises ScriptError if nothing answers, or if the answer is a refusal or not a prediction.
    """
    kind, encode = ENCODERS["base64"]
    try:
        return read_prediction(_url_asker(url, kind)(encode(gradient(shape))))
    except RefusedError as error:
        raise ScriptError(f"the server at {url} refuses a made-up picture: {error}") from error


def ask_endpoint(client, name, shape):
    """The prediction of the SageMaker endpoint `name` for one made-up picture of `shape`, as a dict.

    `client`: boto3's, for sagemaker-runtime. Raises what boto3 raises, ModelError for a 4xx or
    5xx, and ScriptError if the answer is not a prediction.
    """
    # This form stays under the limit of every kind of endpoint, however large the model's images are.
    kind, encode = ENCODERS["base64"]
    response = client.invoke_endpoint(EndpointName=name, ContentType=kind, Accept=kind, Body=encode(gradient(shape)))
    return read_prediction(response["Body"].read())


def gradient(shape):
    """A diagonal gradient from black to white: uint8 of `shape` (height, width, channels)."""
    rows, columns = np.indices(shape[:2])
    grey = 255 * (rows + columns) // max(sum(shape[:2]) - 2, 1)
    return np.broadcast_to(grey[..., None], shape).astype("uint8")


def read_prediction(body, class_names=None):
    """The one prediction in the answer `body` (bytes), a dict, as inference.py writes it.

    Raises ScriptError if it is not one, or not over `class_names`.
    """
    try:
        (prediction,) = json.loads(body)["predictions"]
        probabilities = prediction["probabilities"]
        total = sum(probabilities.values())
        whole = prediction["predicted_class"] in probabilities and math.isclose(total, 1, abs_tol=1e-3)
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        start = bytes(body)[:80].decode(errors="replace")
        raise ScriptError(f"the answer is not a prediction: {start!r}; was the archive made by package_model.py?")
    if class_names is not None and list(probabilities) != list(class_names):
        raise ScriptError(
            f"the server knows other classes ({', '.join(probabilities)}); choose the data set that its model was "
            "trained on"
        )
    return prediction


def summary(answers):
    """What `check` found, in numbers: a dict of n, errors, accuracy, its Wilson interval, p50 and p95 in ms.

    A refused request counts as a wrong answer. The latencies are those of answered requests.
    """
    low, high = measures.share_interval(int(answers.correct.sum()), len(answers))
    milliseconds = answers.milliseconds[answers.error.isna()]
    return {
        "n": len(answers),
        "errors": int(answers.error.notna().sum()),
        "accuracy": answers.correct.mean(),
        "accuracy_low": low,
        "accuracy_high": high,
        "p50_ms": milliseconds.quantile(0.5),
        "p95_ms": milliseconds.quantile(0.95),
    }


def encode_npy(image):
    """One uint8 image as the bytes of an npy file."""
    file = io.BytesIO()
    np.save(file, image)
    return file.getvalue()


def encode_png(image):
    """One uint8 image, (height, width, 3) or (height, width, 1), as the bytes of a PNG file."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "PNG")
    return file.getvalue()


def encode_json(image):
    """One uint8 image as JSON numbers."""
    return json.dumps({"image": image.tolist()}).encode()


def encode_base64(image):
    """One uint8 image as a PNG file in JSON."""
    return json.dumps({"image": base64.b64encode(encode_png(image)).decode()}).encode()


ENCODERS = {
    "npy": ("application/x-npy", encode_npy),
    "png": ("image/png", encode_png),
    "json": ("application/json", encode_json),
    "base64": ("application/json", encode_base64),
}


def make_parser():
    from cnnlab.training import Trial

    parser = common.parser(__doc__)
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--url", help="a local server's, such as http://127.0.0.1:8080, with any ?token=...")
    target.add_argument("--endpoint", help="name of a SageMaker endpoint")
    parser.add_argument("--region", help="the endpoint's (default: the AWS configuration's)")
    parser.add_argument("--profile", help="a profile of the AWS configuration")
    parser.add_argument("--dataset", default=Trial.dataset, help="whose test images to send (default: %(default)s)")
    parser.add_argument("--sample", type=whole_number(1), default=SAMPLE, help="how many (default: %(default)s)")
    parser.add_argument("--form", choices=ENCODERS, default="npy", help="how to send them (default: %(default)s)")
    return parser


def main(argv=None):
    options = make_parser().parse_args(argv)
    images, labels, class_names = _test_images(options.dataset, options.sample)
    session = None
    if options.endpoint:
        from sagemaker_scripts import aws

        session = aws.Access(options.region, options.profile).session()
    answers = check(images, labels, class_names, options.url, options.endpoint, session, options.form)
    print(answers.head(SHOWN).drop(columns="error").to_string(index=False, float_format="{:.3f}".format))
    found = summary(answers)
    print(
        f"accuracy {found['accuracy']:.1%} ({measures.LEVEL:.0%} interval {found['accuracy_low']:.1%} to "
        f"{found['accuracy_high']:.1%}, n = {found['n']}); latency p50 {found['p50_ms']:.1f} ms, "
        f"p95 {found['p95_ms']:.1f} ms; {found['errors']} refused"
    )
    if found["errors"]:
        raise ScriptError(
            f"{found['errors']} of {found['n']} were refused; the first: {answers.error.dropna().iloc[0]}"
        )
    if options.endpoint:
        common.print_next("python sagemaker_scripts/cleanup.py", "an endpoint costs money even while idle")


def _test_images(name, sample):
    from cnnlab import data

    try:
        dataset = data.load(name)
        images, labels = dataset.split("test", sample)
    except data.DataUnavailableError as error:
        raise ScriptError(str(error)) from None
    except ValueError as error:
        raise common.BadArgumentsError(str(error)) from None
    return images, labels, dataset.class_names


def _url_asker(url, kind):
    import requests

    session = requests.Session()
    base, mark, query = url.partition("?")
    address = base.rstrip("/").removesuffix("/invocations") + "/invocations" + mark + query

    def ask(body):
        try:
            response = session.post(address, body, headers={"Content-Type": kind}, timeout=TIMEOUT_SECONDS)
        except (requests.RequestException, ValueError) as error:
            raise ScriptError(f"{url} does not answer ({type(error).__name__}); is serve_local.py running?") from None
        if response.status_code != requests.codes.ok:
            raise RefusedError(f"{response.status_code} {response.text[:300]}")
        return response.content

    return ask


def _endpoint_asker(name, session, kind):
    from botocore.exceptions import BotoCoreError, ClientError

    from sagemaker_scripts import errors

    try:
        client = session.client("sagemaker-runtime")
    except BotoCoreError as error:
        raise errors.explain(error).error() from None

    def ask(body):
        try:
            response = client.invoke_endpoint(EndpointName=name, ContentType=kind, Body=body)
        except (BotoCoreError, ClientError) as error:
            answer = getattr(error, "response", {})
            if "OriginalStatusCode" in answer:
                raise RefusedError(f"{answer['OriginalStatusCode']} {answer['OriginalMessage'][:300]}") from None
            raise errors.explain(error).error() from None
        return response["Body"].read()

    return ask


if __name__ == "__main__":
    sys.exit(common.run(main))
