"""Training computes the numbers that protocol.json keeps, so that rebuilding the lab's code changes none of them.

Compared are the training and validation losses of every epoch (for a trial that keeps the last
epoch, that one) and the test loss, as relative differences. On a machine like the one
that kept them (same processor, instruction sets, cores and versions) the same code gave the same
bits, beside a busy other process too; ALIKE leaves room for a sum in another order, and is far
below what a wrong number does: Adam's epsilon times ten moves the cnn's losses by 1.8e-3. ELSEWHERE
is ten times the most that a loss moved, rounded up, with one to eight threads, without oneDNN, and
with oneDNN held to AVX2 (float32 alone) or to AVX512 without AMX, on an Intel and an AMD processor:
1.1e-4 in float32, 4.1e-4 in bfloat16. Two trainings grow a last bit to as much as a mistake makes:
with other threads another epoch is the best. Elsewhere FIRST_EPOCHS of their training losses are compared.

    python tests/test_protocol.py --keep    # keeps this machine's numbers: only where they are meant to change
"""

import dataclasses
import importlib.metadata
import json
import sys
from functools import cache, partialmethod
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras
import numpy as np
import pytest
import synthetic

from cnnlab import machine
from cnnlab.training import Trial, train

pytestmark = pytest.mark.usefixtures("as_many_images_for_statistics")
KEPT = Path(__file__).with_name("protocol.json")
ALIKE = {"float32": 1e-5, "bfloat16": 1e-5}
ELSEWHERE = {"float32": 1e-3, "bfloat16": 5e-3}
FIRST_EPOCHS = {"augmented": 3, "muon": 1}
HAS_BFLOAT16 = bool(machine.BFLOAT16_FLAGS & machine.cpu_flags())


@dataclasses.dataclass
class Training:
    """`run` trains, and gives {"loss", "val_loss": one value an epoch; "test_loss": of what the lab would keep}."""

    trial: Trial

    def run(self):
        result = train(self.trial, pictures())
        row, history = result.row, result.history
        if self.trial.keep == "best":
            return {"loss": history["loss"], "val_loss": history["val_loss"], "test_loss": row["test_loss_best"]}
        at_the_end = [] if row["val_loss_last"] is None else [row["val_loss_last"]]
        return {"loss": history["loss"], "val_loss": at_the_end, "test_loss": row["test_loss_last"]}


@cache
def pictures():
    """Bars at ten angles, drawn from a fixed seed."""
    return synthetic.dataset(train=512, validation=128, test=128, classes=10, side=32)


def trainings():
    """{name: Training}, of every kind that the lab has; with Training.run, all that names its ways to train."""
    cnn = Trial("cnn", options={"filters": [8, 16], "dense": 32, "dropout": 0.5}, epochs=3, precision="float32")
    changed = dataclasses.replace
    trials = {
        "dense": changed(cnn, model="dense", options={"units": [32, 16], "dropout": 0.3}),
        "cnn": cnn,
        "augmented": changed(
            cnn, options={**cnn.options, "batch_norm": True}, flip="random", translate=4, class_weights=True,
            epochs=8, monitor="val_accuracy", patience=2,
        ),
        "permuted": changed(
            cnn, permute_pixels=0, optimizer="sgd", momentum=0.0, learning_rate=0.1, monitor="val_loss"
        ),
        "cnn_bfloat16": changed(cnn, precision="mixed_bfloat16"),
    }  # fmt: skip
    plain = Trial("plain", options={"filters": [4, 4, 8]}, epochs=2, precision="float32", keep="last")
    blocks = changed(
        plain, model="blocks", options={"filters": [8, 8, 8], "activation": "gelu", "whitening": True, "dirac": True},
        label_smoothing=0.2, optimizer="sgd", learning_rate=0.3, weight_decay=1e-3, bias_scale=8.0,
        schedule="triangular", epochs=2.5, flip="alternating", translate=2, average="lookahead",
    )  # fmt: skip
    recipes = {
        "blocks": blocks,
        "muon": changed(blocks, optimizer="muon", schedule="linear", average="none"),
        "average": changed(plain, average="ema", train_split="all", flip="random"),
        "published": changed(plain, loop="published"),
        "blocks_bfloat16": changed(blocks, precision="mixed_bfloat16"),
    }
    return {name: Training(trial) for name, trial in (trials | recipes).items()}


def this_machine():
    """What decides the last bits of a loss."""
    flags = machine.cpu_flags() & {"avx2", "avx512f", "avx512_bf16", "amx_bf16"}
    versions = {package: importlib.metadata.version(package) for package in ("keras", "tensorflow", "numpy")}
    return {"cpu": machine.cpu_name(), "cores": machine.usable_cores(), "flags": sorted(flags), **versions}


def difference(found, kept, epochs=None):
    """The largest relative difference between two answers of `Training.run`; infinite where epochs differ.

    With `epochs`: between the training losses of so many first ones.
    """
    if epochs is not None:
        one, other = (np.array(it["loss"][:epochs]) for it in (found, kept))
    elif any(len(found[name]) != len(kept[name]) for name in ("loss", "val_loss")):
        return float("inf")
    else:
        one, other = (np.array([*it["loss"], *it["val_loss"], it["test_loss"]]) for it in (found, kept))
    return np.max(np.abs(one - other) / np.abs(other))


@cache
def measured(name):
    """What the training gives here."""
    return trainings()[name].run()


@pytest.mark.parametrize("name", trainings())
@pytest.mark.skipif(keras.backend.backend() != "tensorflow" or machine.has_gpu(), reason="of TensorFlow on a CPU")
def test_training_computes_the_kept_numbers(name):
    precision = "bfloat16" if name.endswith("bfloat16") else "float32"
    if precision == "bfloat16" and not HAS_BFLOAT16:
        pytest.skip("this processor only emulates bfloat16")
    kept = json.loads(KEPT.read_text(encoding="utf-8"))
    alike = kept["machine"] == this_machine()
    tolerance, epochs = (ALIKE, None) if alike else (ELSEWHERE, FIRST_EPOCHS.get(name))
    assert difference(measured(name), kept["trainings"][name], epochs) <= tolerance[precision]


def test_a_changed_epsilon_is_noticed(monkeypatch):
    """Against this machine's own numbers, so that it holds with ALIKE everywhere."""
    before, make = measured("cnn"), keras.optimizers.Adam.__init__
    monkeypatch.setattr(keras.optimizers.Adam, "__init__", partialmethod(make, epsilon=1e-6))
    assert difference(trainings()["cnn"].run(), before) > ALIKE["float32"]


if __name__ == "__main__" and sys.argv[1:] == ["--keep"]:
    if not HAS_BFLOAT16:
        sys.exit("this processor only emulates bfloat16; keep the numbers on one that does not")
    kept = {"machine": this_machine(), "trainings": {name: it.run() for name, it in trainings().items()}}
    KEPT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
