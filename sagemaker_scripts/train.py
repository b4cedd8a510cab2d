"""Train one cnnlab trial: on a laptop, or as SageMaker's training script.

The trial is a variant of a study (--study, --variant, --seed) or spelled out (--filters 32,64
--epochs 3 ...); a flag given with --study changes that variant. In a training job the data comes
from a channel, the model goes to SM_MODEL_DIR and the result's row, as every local run writes it,
to SM_OUTPUT_DATA_DIR; elsewhere everything goes under --output-dir. A job that is restarted with
the same checkpoint folder goes on after the last finished epoch.
"""

import dataclasses
import os
import sys
from pathlib import Path

from sagemaker_scripts import common

LABEL = "trial"
# Where SageMaker mirrors a job's checkpoints to and from S3, when the job asks for it.
JOB_CHECKPOINTS = Path("/opt/ml/checkpoints")
# Channels that carry the SDK's own files and not data.
SDK_CHANNELS = {"code", "sm_drivers"}
# Preferred names, if a job has several channels.
DATA_CHANNELS = ("training", "train", "data")
NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
CURVES = {"loss": "train_loss", "accuracy": "train_accuracy", "val_loss": "val_loss", "val_accuracy": "val_accuracy"}
# Of the last epoch's weights, and of the best epoch's if the trial keeps those.
SCORES = ("val_accuracy", "val_loss", "test_accuracy", "test_loss")
RESULTS = (*(f"{score}_{which}" for which in ("best", "last") for score in SCORES), "seconds")

# What SageMaker looks for in a job's log, in CreateTrainingJob's form.
METRIC_DEFINITIONS = [{"Name": name, "Regex": rf"\b{name}={NUMBER}"} for name in (*CURVES.values(), *RESULTS)]
OBJECTIVE = "val_accuracy_best"


def integers(text):
    """[16, 32] from "16,32", "16 32" or "[16, 32]": people, tuning jobs and the SDK write it differently."""
    return [int(word) for word in text.strip("[]() ").replace(",", " ").split()]


def one_or_more(text):
    """3 from "3", [3, 5] from "3,5": one value for all layers, or one per layer."""
    values = integers(text)
    return values[0] if len(values) == 1 else values


def boolean(text):
    """True or False, as people and SageMaker spell them."""
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in words:
        raise ValueError(text)
    return words[text.lower()]


MODEL_OPTIONS = {
    "filters": integers,
    "kernel_size": one_or_more,
    "padding": str,
    "pools": int,
    "head": str,
    "dense": int,
    "units": integers,
    "dropout": float,
    "batch_norm": boolean,
}
TRIAL_FIELDS = {
    "model": str,
    "dataset": str,
    "epochs": int,
    "steps_per_epoch": int,
    "batch_size": int,
    "optimizer": str,
    "learning_rate": float,
    "train_images": int,
    "eval_images": int,
    "permute_pixels": int,
    "flip": str,
    "translate": int,
    "class_weights": boolean,
    "monitor": str,
    "patience": int,
    "seed": int,
    "precision": str,
}


def make_parser():
    parser = common.parser(__doc__)
    parser.add_argument("--study", help="the study in cnnlab.studies that the trial is taken from")
    parser.add_argument("--variant", help="label of the trial within --study, such as cnn_32_64_128")
    parser.add_argument("--label", help=f"name for a trial that is spelled out (default: {LABEL})")
    for title, fields in (("the trial", TRIAL_FIELDS), ("the model", MODEL_OPTIONS)):
        group = parser.add_argument_group(title, "anything not given keeps cnnlab's default")
        for name, kind in fields.items():
            group.add_argument(_flag(name), type=kind, metavar=kind.__name__.upper())
    parser.add_argument("--output-dir", type=Path, help="where results go outside a job (default: under runs/train)")
    parser.add_argument("--checkpoint-dir", type=Path, help=f"default in a job: {JOB_CHECKPOINTS}")
    return parser


def make_trial(arguments):
    """The Trial that parsed `arguments` describe; raises BadArgumentsError if they describe none."""
    from cnnlab import studies
    from cnnlab.training import Trial

    given = {name: getattr(arguments, name) for name in TRIAL_FIELDS if getattr(arguments, name) is not None}
    options = {name: getattr(arguments, name) for name in MODEL_OPTIONS if getattr(arguments, name) is not None}
    try:
        if arguments.study is None:
            return Trial(arguments.label or LABEL, options=options, **given)
        trials = {trial.label: trial for trial in studies.find_study(arguments.study).trials}
        if arguments.variant not in trials:
            raise ValueError(f"study {arguments.study} has no variant {arguments.variant!r}; expected one of "
                             f"{', '.join(trials)}")  # fmt: skip
        trial = trials[arguments.variant]
        return dataclasses.replace(trial, options={**trial.options, **options}, **given)
    except ValueError as error:
        raise common.BadArgumentsError(str(error)) from error


def data_channel(environment):
    """Folder of the job's data channel, from SM_CHANNEL_* in `environment`; None if there is none."""
    channels = {
        name.removeprefix("SM_CHANNEL_").lower(): path
        for name, path in environment.items()
        if name.startswith("SM_CHANNEL_")
    }
    channels = {name: path for name, path in channels.items() if name not in SDK_CHANNELS}
    chosen = next((name for name in DATA_CHANNELS if name in channels), None)
    if chosen is None and len(channels) > 1:
        raise common.BadArgumentsError(
            f"the job has the channels {', '.join(sorted(channels))}; expected one, or one called {DATA_CHANNELS[0]}"
        )
    return channels[chosen] if chosen else next(iter(channels.values()), None)


def load_data(trial, environment=os.environ):
    """The Dataset of `trial`; if the job has a channel, from there: a copy of the data, or the lab's cache."""
    from cnnlab import data

    if folder := data_channel(environment):
        name = data.cache_name(trial.dataset)
        if (Path(folder) / name / "manifest.json").is_file():
            os.environ["CNNLAB_CACHE"] = folder
            os.environ.pop(data.path_variable(trial.dataset), None)
        else:
            os.environ[data.path_variable(trial.dataset)] = folder
    try:
        return data.load(trial.dataset, trial.seed)
    except data.DataUnavailableError as error:
        raise common.ScriptError(str(error)) from error


def train(trial, output_dir, model_dir=None, checkpoint_dir=None, dataset=None):
    """Train `trial` and write its row and predictions under `output_dir`, its model to `model_dir`.

    Prints one line per epoch while it runs and one at the end; METRIC_DEFINITIONS match these. A
    trial whose row and model exist is not trained again. `dataset`: a `data.Dataset` (default:
    loaded). Returns the row, a dict. Raises common.ScriptError with one line.
    """
    from cnnlab import machine

    machine.import_keras()
    from cnnlab.studies import Store
    from cnnlab.training import Checkpoint, save_model, trial_key
    from cnnlab.training import train as train_trial

    output_dir, model_dir = Path(output_dir), Path(model_dir or output_dir)
    store = Store(output_dir / "trials")
    model_path = model_dir / "model.keras"
    if trial in store and model_path.exists():
        row = store.row(trial)
    else:
        dataset = dataset or load_data(trial)
        checkpoint = Path(checkpoint_dir or output_dir / ".checkpoints") / f"{trial_key(trial)}.npz"
        try:
            result = train_trial(trial, dataset, [epoch_lines(trial.epochs), Checkpoint(checkpoint)])
        except ValueError as error:  # An impossible model or limit, in cnnlab's own words.
            raise common.BadArgumentsError(str(error)) from error
        if result.interrupted:
            raise KeyboardInterrupt
        store.save(result)
        row = store.row(result.trial)
        save_model(result.model, model_path, row)
    print(result_line(row), flush=True)
    return row


def epoch_lines(epochs):
    """A Keras callback that prints one line for each of `epochs` epochs, as soon as it is over."""
    import keras

    def show(epoch, logs):
        figures = " ".join(f"{name}={logs[curve]:.6f}" for curve, name in CURVES.items() if curve in logs)
        print(f"epoch {epoch + 1}/{epochs:g} {figures}", flush=True)

    return keras.callbacks.LambdaCallback(on_epoch_end=show)


def result_line(row):
    """The final line, from a result `row`: scores of the best validation epoch and of the last, and seconds."""
    figures = " ".join(f"{name}={row[name]:.6f}" for name in RESULTS if row.get(name) is not None)
    best = f"best_epoch {row['best_epoch']} " if row["keep"] == "best" else ""
    return f"result {row['label']} seed {row['seed']} {best}{figures}"


def main(argv=None, environment=os.environ):
    argv = [_spelled(word) for word in (sys.argv[1:] if argv is None else argv)]
    in_job = "SM_MODEL_DIR" in environment
    try:
        arguments, unknown = _parsed(argv, in_job)
        if unknown:
            print(f"ignored, unknown to train.py: {' '.join(unknown)}", flush=True)
        trial = make_trial(arguments)
        output_dir = model_dir = arguments.output_dir or Path("runs") / "train" / f"{trial.label}-seed{trial.seed}"
        if in_job:
            output_dir, model_dir = Path(environment["SM_OUTPUT_DATA_DIR"]), Path(environment["SM_MODEL_DIR"])
        checkpoint_dir = arguments.checkpoint_dir or (JOB_CHECKPOINTS if in_job else None)
        row = train(trial, output_dir, model_dir, checkpoint_dir)
    except Exception as error:
        if in_job:
            _note_failure(error, Path(environment["SM_OUTPUT_DATA_DIR"]).parent / "failure")
        raise
    if not in_job:
        row = output_dir / "trials" / f"{row['key']}.json"
        common.print_next(f"python sagemaker_scripts/package_model.py {model_dir / 'model.keras'} --row {row}")
    return common.EXIT_DONE


def _parsed(argv, in_job):
    """What `parse_known_args` returns: arguments and unknown words; in a job, a bad value is a BadArgumentsError."""

    def refuse(message):
        raise common.BadArgumentsError(message)

    parser = make_parser()
    if in_job:
        parser.error = refuse
    return parser.parse_known_args(argv)


def _note_failure(error, path):
    """Write `error` in one line to the file from which SageMaker takes the job's FailureReason."""
    kind = "" if isinstance(error, common.ScriptError) else f"{type(error).__name__}: "
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(kind + " ".join(str(error).split()), encoding="utf-8")


def _flag(name):
    return f"--{name.replace('_', '-')}"


def _spelled(word):
    """--batch_size as --batch-size: hyperparameters are named with underscores, flags with hyphens."""
    name, equals, value = word.partition("=")
    known = name.startswith("--") and name[2:] in {*TRIAL_FIELDS, *MODEL_OPTIONS}
    return (_flag(name[2:]) if known else name) + equals + value


if __name__ == "__main__":
    sys.exit(common.run(main))
