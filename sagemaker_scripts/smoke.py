"""One made-up picture to a server, and whether what comes back is an answer."""

import json
import math
import urllib.error
import urllib.request

from sagemaker_scripts import common

CONTENT_TYPE = "application/json"
TIMEOUT_SECONDS = 60


def request_body(shape):
    """JSON bytes of one image of `shape` (height, width, channels) in 0..255: a diagonal gradient."""
    height, width, channels = shape
    steps = max(height + width - 2, 1)
    image = [[[255 * (row + column) // steps] * channels for column in range(width)] for row in range(height)]
    return json.dumps({"image": image}).encode()


def ask_url(url, shape):
    """The answer of a server at `url` that speaks the endpoint's contract; see `read_answer`."""
    address = url.rstrip("/").removesuffix("/invocations") + "/invocations"
    request = urllib.request.Request(address, request_body(shape), {"Content-Type": CONTENT_TYPE})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
            return read_answer(response.read())
    except (urllib.error.URLError, OSError) as error:
        raise common.ScriptError(f"the local server at {url} does not answer: {error}") from error


def ask_endpoint(account, name, shape):
    """The answer of the SageMaker endpoint `name`; raises what boto3 raises, ModelError for a 4xx or 5xx."""
    response = account.client("sagemaker-runtime").invoke_endpoint(
        EndpointName=name, ContentType=CONTENT_TYPE, Accept="application/json", Body=request_body(shape)
    )
    return read_answer(response["Body"].read())


def read_answer(body):
    """The first prediction in `body`, as a dict; ScriptError where `body` is not what inference.py answers."""
    try:
        answer = json.loads(body)["predictions"][0]
        total = sum(answer["probabilities"].values())
        whole = answer["predicted_class"] in answer["probabilities"] and math.isclose(total, 1, abs_tol=1e-3)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        whole = False
    if not whole:
        start = bytes(body)[:80].decode(errors="replace")
        raise common.ScriptError(f"the answer is no prediction: {start!r}; was the archive made by package_model.py?")
    return answer


def sentence(answer):
    """`answer` in words."""
    return f"{answer['predicted_class']} with probability {answer['confidence']:.3f}, for a made-up grey gradient"
