"""The assignment's CNN in Keras on JAX: a process that trains one epoch per line of input.

Started as `KERAS_BACKEND=jax python -m benchmarks.jax_turns IMAGES BATCH_SIZE PRECISION`; it prints JAX's version
when it is ready, and an empty line after each epoch.
"""

import sys

from benchmarks.training import here
from cnnlab.data import load_cifar10
from cnnlab.machine import environment


def main():
    count, batch_size, precision = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    images, labels = load_cifar10(progress=False).split("train", count)
    turn = here(images, labels.astype("int32"), precision, batch_size=batch_size)
    turn()  # XLA compiles in the first turn.
    print(environment()["backend_version"], flush=True)
    for _ in sys.stdin:
        turn()
        print(flush=True)


if __name__ == "__main__":
    main()
