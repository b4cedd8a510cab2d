"""Any number of malformed requests: valid ones with broken bytes, numbers, structure or content types."""

import json
import random

import numpy as np

KINDS = ("application/json", "application/x-npy", "image/png", "image/jpeg", "text/plain", "", "application/json;x=")
LEAVES = (None, True, "7", "", -1, 256, 1e308, 10**400, 0.5, [], {}, [[]], float("nan"), float("-inf"))


def malformed(requests, picture, count, seed):
    """Yield (content type, body), `count` times: mutations of `requests` {name: (content type, body)}.

    `picture(array, form)` makes further picture files to break.
    """
    generator = random.Random(seed)
    image = np.random.default_rng(seed).integers(0, 256, (12, 9, 3), "uint8")
    seeds = [
        *requests.values(),
        ("image/png", picture(image)),
        ("image/jpeg", picture(image, "JPEG")),
        ("image/jpeg", picture(image, "JPEG", progressive=True)),
    ]
    for _ in range(count):
        kind, body = generator.choice(seeds)
        if kind.startswith("application/json") and generator.random() < 0.5:
            body = _broken_document(generator, json.loads(body))
        else:
            for _ in range(generator.choice((1, 1, 2, 5))):
                body = generator.choice(BREAKS)(generator, body)
        if generator.random() < 0.1:
            kind = generator.choice(KINDS)
        yield kind, body


def _broken_document(generator, document):
    """JSON whose structure is broken at a random place and depth."""
    node, depth = document, generator.randint(0, 4)
    key = next(iter(node))
    for _ in range(depth):
        if not isinstance(node[key], list) or not node[key]:
            break
        node, key = node[key], generator.randrange(len(node[key]))
    action = generator.randrange(4)
    if action == 0:
        node[key] = generator.choice(LEAVES)
    elif action == 1:
        node[key] = [node[key]]
    elif action == 2 and isinstance(node, list):
        node.append(node[key])
    else:
        del node[key]
    return json.dumps(document).encode()


def _cut(generator, body):
    return body[: generator.randint(0, len(body))]


def _flip(generator, body):
    if not body:
        return body
    position = generator.randrange(min(len(body), generator.choice((40, 200, len(body)))))
    return body[:position] + bytes([body[position] ^ (1 << generator.randrange(8))]) + body[position + 1 :]


def _insert(generator, body):
    position = generator.randint(0, len(body))
    return body[:position] + generator.randbytes(generator.choice((1, 4, 64))) + body[position:]


def _remove(generator, body):
    position = generator.randint(0, len(body))
    return body[:position] + body[position + generator.choice((1, 2, 17)) :]


def _repeat(generator, body):
    return body * 2


def _noise(generator, body):
    return generator.randbytes(generator.choice((0, 1, 7, 100, 3000)))


def _header_of_noise(generator, body):
    return body[: generator.choice((2, 8, 16, 33, 128))] + generator.randbytes(200)


BREAKS = (_cut, _flip, _flip, _flip, _insert, _remove, _repeat, _noise, _header_of_noise)
