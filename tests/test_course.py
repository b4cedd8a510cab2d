"""The course: its reference answers pass, typical wrong answers get their hint, and no solution is handed out."""

import ast
import contextlib
import io
import json
import re
import sys
from collections import Counter
from pathlib import Path

import checks
import generate
import nbformat
import numpy as np
import pytest
from scipy.special import log_softmax
from test_notebooks import prose, typed_measurements

ROOT = Path(__file__).parent.parent
SOLUTIONS = nbformat.read(generate.SOLUTIONS, as_version=4)
EXERCISES = nbformat.read(generate.EXERCISES, as_version=4)
# The lines of each solution.
REGIONS = re.findall(r"### BEGIN SOLUTION\n(.*?) *### END SOLUTION", "\n".join(c.source for c in SOLUTIONS.cells), re.S)


def test_the_students_notebook_is_made_of_the_solutions():
    assert generate.student_version(SOLUTIONS) == EXERCISES


def test_no_solution_stands_in_the_students_notebook():
    handed_out = "\n".join(cell.source for cell in EXERCISES.cells if cell.cell_type == "code")
    lines = {line.strip() for region in REGIONS for line in region.splitlines()}
    assert len(REGIONS) >= 16 and len(lines) > 30
    assert [line for line in lines if line in handed_out and line != "else:"] == []
    assert "SOLUTION" not in handed_out
    assert handed_out.count("raise NotImplementedError()") == len(REGIONS)
    assert not [cell for cell in EXERCISES.cells if cell.get("outputs") or cell.get("execution_count")]


def test_answers_are_short_and_cells_too():
    assert max(len(region.strip().splitlines()) for region in REGIONS) <= 10
    for cell in SOLUTIONS.cells:
        if cell.cell_type == "code":
            assert len(cell.source.splitlines()) <= 20, cell.source
            ast.parse(cell.source)


def test_a_grader_finds_its_cells_and_the_points_of_the_rubric():
    known = {"grade", "solution", "locked", "task", "grade_id", "schema_version", "points"}
    graded = [cell.metadata.nbgrader for cell in SOLUTIONS.cells if "nbgrader" in cell.metadata]
    assert all(set(each) - {"points"} == known - {"points"} and each.schema_version == 3 for each in graded)
    assert len({each.grade_id for each in graded}) == len(graded)
    for cell in SOLUTIONS.cells:
        is_answer, is_check = "### BEGIN SOLUTION" in cell.source, cell.source.startswith("checks.")
        meta = cell.metadata.get("nbgrader", {})
        assert (meta.get("solution", False), meta.get("grade", False)) == (is_answer, is_check)
    points, number = Counter(), None
    for cell in SOLUTIONS.cells:
        if found := generate.HEADING.match(cell.source):
            number = found[1]
        points[number] += cell.metadata.get("nbgrader", {}).get("points", 0)
    rows = generate.exercises(SOLUTIONS)
    assert {row[0]: points[row[0]] for row in rows} == {row[0]: int(row[3]) for row in rows}
    of_rubric = Counter()
    for _, _, rubric, count, *_ in rows:
        of_rubric[rubric.lower()] += int(count)
    asked = re.findall(r"^\| (\w+) \| (\d+) \| chapter", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
    assert of_rubric == {name: int(count) for name, count in asked}


def test_the_instructors_table_has_the_exercises_as_they_are():
    text = generate.INSTRUCTOR.read_text(encoding="utf-8")
    rows = generate.exercises(SOLUTIONS)
    assert len(rows) >= 12
    assert [row for row in rows if f"| {' | '.join(row)} | " not in text] == []


@pytest.mark.parametrize("path", [generate.SOLUTIONS, generate.INSTRUCTOR], ids=lambda path: path.name)
def test_no_measurement_is_typed_into_prose(path):
    assert typed_measurements(prose(path)) == []


@pytest.mark.long
def test_the_reference_answers_pass_where_no_data_are_at_hand(tmp_path, monkeypatch):
    """As `make check` runs them; digits stand in for Mars, which is neither cached nor named; nothing is fetched."""
    monkeypatch.setattr(sys, "argv", [generate.__file__, "--check"])
    monkeypatch.setenv("CNNLAB_CACHE", str(tmp_path))
    monkeypatch.delenv("CNNLAB_MARS", raising=False)
    monkeypatch.chdir(tmp_path)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        generate.main()
    shown = printed.getvalue()
    asked = sum(cell.source.startswith("checks.") for cell in SOLUTIONS.cells)
    assert shown.count("Right.\n") == asked
    assert re.search(r"of 14 exercises pass, in \d+ processor seconds", shown)
    assert list(tmp_path.iterdir()) == [], "something was cached"


def _coin(frames, seed):
    return np.random.default_rng(seed).random(len(frames)) < 0.25


def _first_frames(frames, seed):
    return np.isin(frames, np.unique(frames)[:10])


def _unseeded(frames, seed):
    return np.isin(frames, np.random.default_rng().choice(np.unique(frames), 10, replace=False))


def _half(frames, seed):
    return np.isin(frames, np.random.default_rng(seed).choice(np.unique(frames), 20, replace=False))


def _rows(known, known_labels, asked):
    return np.corrcoef(asked, known)[: len(asked), len(asked) :].argmax(axis=1)


def _least_alike(known, known_labels, asked):
    return known_labels[np.corrcoef(asked, known)[: len(asked), len(asked) :].argmin(axis=1)]


def _nearest_by_distance(known, known_labels, asked):
    return known_labels[[((known - each) ** 2).sum(axis=1).argmin() for each in asked]]


def _cosine(known, known_labels, asked):
    return known_labels[(asked @ (known / np.linalg.norm(known, axis=1, keepdims=True)).T).argmax(axis=1)]


RIGHT_CONVOLVED = [[-1, 1, 3], [-1, 3, 7], [2, 5, 5]]
RIGHT_PARAMETERS = (lambda i, o: (i + 1) * o), (lambda k, c, f: (k * k * c + 1) * f)


def _field(late=True, start=1, add=lambda window: window - 1):
    def field(layers):
        seen, step = start, 1
        for window, stride in layers:
            if not late:
                step *= stride
            seen += add(window) * step
            if late:
                step *= stride
        return seen

    return field


def _repair(mean=None, variance=None):
    def repair(norm, values):
        if mean:
            norm.moving_mean.assign(mean(values))
        if variance:
            norm.moving_variance.assign(variance(values))

    return repair


MEAN, VARIANCE = (lambda values: values.mean(axis=(0, 1, 2))), (lambda values: values.var(axis=(0, 1, 2)))


def _verdict(**changed):
    def verdict(low, high, margin):
        case = "same" if -margin < low and high < margin else "better" if low > 0 else "worse" if high < 0 else "unsure"
        return changed.get(case, case.replace("unsure", "cannot tell"))

    return verdict


def _zero_is_same(low, high, margin):
    return "better" if low > 0 else "worse" if high < 0 else "same"


def _never_same(low, high, margin):
    return "better" if low > 0 else "worse" if high < 0 else "cannot tell"


def _zero_first(low, high, margin):
    if low > 0 or high < 0:
        return "better" if low > 0 else "worse"
    return "same" if -margin < low and high < margin else "cannot tell"


def _moved(first=1, last=1, border=2, axis=1):
    def difference(features, picture, right):
        before = features(np.roll(picture, right * first, axis=axis))
        after = np.roll(features(picture), right * last, axis=1)
        cut = right + border if border is not None else 0
        return np.abs(before - after)[:, cut : before.shape[1] - cut].max()

    return difference


def _each_its_own(images, order):
    flat = images.reshape(len(images), -1, images.shape[-1])
    generator = np.random.default_rng(0)
    return np.stack([each[generator.permutation(order)] for each in flat]).reshape(images.shape)


def _colours_torn(images, order):
    flat = images.reshape(len(images), -1)
    everywhere = np.random.default_rng(0).permutation(flat.shape[1])
    return flat[:, everywhere].reshape(images.shape)


def _inverse(images, order):
    return images.reshape(len(images), -1, 3)[:, np.argsort(order)].reshape(images.shape)


def _in_place(images, order):
    images[:] = images.reshape(len(images), -1, images.shape[-1])[:, order].reshape(images.shape)
    return images


def _kernels(of=lambda table: np.diag(table).mean(), axis=-1):
    def likeness(first, second):
        filters = first.shape[-1]
        lists = [each.reshape(-1, filters).T if axis else each.reshape(filters, -1) for each in (first, second)]
        return of(np.corrcoef(*lists)[:filters, filters:])

    return likeness


def _temperature(score, pick=np.argmin):
    def temperature(logits, labels):
        candidates = np.arange(0.1, 6, 0.02)
        found = [score(log_softmax(logits / each, axis=1), np.asarray(labels)) for each in candidates]
        return candidates[pick(found)]

    return temperature


def _loss(log_probabilities, labels):
    return -log_probabilities[np.arange(len(labels)), labels].mean()


def _wrong_answers(log_probabilities, labels):
    return (log_probabilities.argmax(axis=1) != labels).mean()


def _sure(degree):
    """Logits (n, classes) and labels, likeliest at the temperature `degree`."""
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 3, (400, 5))
    return logits, (logits / degree + generator.gumbel(size=logits.shape)).argmax(axis=1)


PAIRS = _sure(1.5), _sure(3)
BEST = _temperature(_loss)
JSON = "application/json"


# Per check: an answer as students give it, and what its hint speaks of.
WRONG = [
    ("locality", lambda p, d: np.corrcoef(p.ravel(), np.roll(p, -d, axis=1).ravel())[0, 1], "np.roll"),
    ("locality", lambda p, d: np.corrcoef(p[:, :-d].ravel(), p[:, d:].ravel()), r"\[0, 1\]"),
    ("locality", lambda p, d: np.corrcoef(p.ravel()[:-d], p.ravel()[d:])[0, 1], "flattened"),
    ("locality", lambda p, d: np.corrcoef(p[:-d].ravel(), p[d:].ravel())[0, 1], "below"),
    ("locality", lambda p, d: np.cov(p[:, :-d].ravel(), p[:, d:].ravel())[0, 1], "covariance"),
    ("locality", lambda p, d: None, "return"),
    ("locality", lambda p, d: 0.9, "with the one to its right"),
    ("split", _coin, "files on both sides"),
    ("split", _first_frames, "all seeds give the same"),
    ("split", _unseeded, "the same seed gives two"),
    ("split", _half, "expected a quarter"),
    ("split", lambda frames, seed: np.zeros(len(frames), bool), "0 of 40 frames"),
    ("split", lambda frames, seed: np.unique(frames)[:10], "True or False"),
    ("not_knowing", lambda classes: np.log(1 / classes), "not negative"),
    ("not_knowing", lambda classes: np.log10(classes), "log10"),
    ("not_knowing", lambda classes: np.log2(classes), "bits"),
    ("not_knowing", lambda classes: 1 / classes, "probability of each"),
    ("not_knowing", lambda classes: 1 - 1 / classes, "guess is wrong"),
    ("not_knowing", lambda classes: np.log(10), "minus the logarithm of the true class"),
    ("nearest_neighbour", _rows, "known_labels"),
    ("nearest_neighbour", _least_alike, "least similar"),
    ("nearest_neighbour", lambda k, labels, a: labels[(a @ k.T).argmax(axis=1)], "bright"),
    ("nearest_neighbour", _cosine, "brightness still in"),
    ("nearest_neighbour", _nearest_by_distance, "another light"),
    ("nearest_neighbour", lambda k, labels, a: labels[:2], "highest correlation"),
    ("convolution", None, "None"),
    ("convolution", checks._correlate(checks.PICTURE, checks.KERNEL[::-1, ::-1]), "half a turn"),
    ("convolution", checks._correlate(checks.PICTURE, checks.KERNEL.T), "of the kernel are swapped"),
    ("convolution", np.transpose(RIGHT_CONVOLVED), "of the answer are swapped"),
    ("convolution", checks.ndimage.correlate(checks.PICTURE, checks.KERNEL, mode="constant"), "padding"),
    ("convolution", np.maximum(RIGHT_CONVOLVED, 0), "ReLU"),
    ("convolution", checks.PICTURE[1:4, 1:4] * checks.KERNEL, "nine products up to one"),
    ("convolution", [[-1, 1, 3], [-1, 3, 7], [2, 5, 6]], r"1 of 9 are not right; .*\[2, 2\]"),
    ("convolution", [1, 2, 3], "shape"),
    ("parameters", (lambda i, o: i * o, RIGHT_PARAMETERS[1]), "dense: the biases are missing"),
    ("parameters", (lambda i, o: i * (o + 1), RIGHT_PARAMETERS[1]), "not to an input"),
    ("parameters", (lambda i, o: i * o + 1, RIGHT_PARAMETERS[1]), "do not share one"),
    ("parameters", (lambda i, o: i + o, RIGHT_PARAMETERS[1]), "pair of an input and an output"),
    ("parameters", (RIGHT_PARAMETERS[0], lambda k, c, f: k * k * c * f), "convolution: the biases are missing"),
    ("parameters", (RIGHT_PARAMETERS[0], lambda k, c, f: (k * k + 1) * f), "weights for each channel"),
    ("parameters", (RIGHT_PARAMETERS[0], lambda k, c, f: k * k * f), "channels are missing"),
    ("parameters", (RIGHT_PARAMETERS[0], lambda k, c, f: (k * c + 1) * f), "two sides"),
    ("parameters", (RIGHT_PARAMETERS[0], lambda k, c, f: (k * k + 1) * c * f), "not for each channel"),
    ("parameters", (RIGHT_PARAMETERS[0], lambda k, c, f: 32 * 32 * f), "pair of channel and filter"),
    ("receptive_field", _field(add=lambda window: window), "overlap"),
    ("receptive_field", lambda layers: sum(window for window, _ in layers), "overlap"),
    ("receptive_field", _field(start=0), "begin with 1"),
    ("receptive_field", lambda layers: 1 + sum(window - 1 for window, _ in layers), "two pixels"),
    ("receptive_field", _field(late=False), "step last"),
    ("receptive_field", lambda layers: np.prod([window for window, _ in layers]), "windows add up"),
    ("receptive_field", lambda layers: 18, "a field and a step of 1"),
    ("batch_normalisation", (lambda m, s: 1 - m**s, None), "contributed; the start"),
    ("batch_normalisation", (lambda m, s: 1 - m, None), "one batch contributes"),
    ("batch_normalisation", (lambda m, s: m * s, None), "steps multiply"),
    ("batch_normalisation", (lambda m, s: 1 - s * (1 - m), None), "steps multiply"),
    ("batch_normalisation", (lambda m, s: s, None), "keeps the share"),
    ("batch_normalisation", (pow, lambda norm, values: None), "nothing has changed"),
    ("batch_normalisation", (pow, lambda norm, values: norm(values, training=True)), "hundredth"),
    ("batch_normalisation", (pow, lambda norm, values: norm.gamma.assign(MEAN(values))), "scale and shift"),
    ("batch_normalisation", (pow, _repair(lambda v: v.mean(axis=(0, 1, 2)) + 1, VARIANCE)), "the mean is not"),
    ("batch_normalisation", (pow, _repair(MEAN)), "still where it started"),
    ("batch_normalisation", (pow, _repair(MEAN, lambda v: v.std(axis=(0, 1, 2)))), "standard deviation"),
    ("batch_normalisation", (pow, _repair(MEAN, lambda v: (v**2).mean(axis=(0, 1, 2)))), "the variance is not"),
    ("batch_normalisation", (pow, _repair(lambda v: v.mean(axis=0))), "your code raises ValueError"),
    ("interval", _zero_is_same, "does not show that they are alike|nothing is shown"),
    ("interval", _never_same, "shown, not unknown"),
    ("interval", _zero_first, "smaller than what would matter"),
    ("interval", _verdict(better="worse"), "above zero"),
    ("interval", _verdict(worse="better"), "below zero"),
    ("interval", lambda low, high, margin: _verdict()(low, high, 1), "smaller than|shown, not unknown|above zero"),
    ("shift", _moved(border=None), "border"),
    ("shift", _moved(last=0), "has not moved"),
    ("shift", _moved(first=0), "has not moved"),
    ("shift", _moved(axis=0), "axis=1"),
    ("shift", lambda features, picture, right: 7, "move the picture and take"),
    ("shift", lambda features, picture, right: 0, "depend on position"),
    ("permutation", _inverse, "other way round"),
    ("permutation", lambda images, order: images, "nothing has moved"),
    ("permutation", _each_its_own, "one order for all"),
    ("permutation", _colours_torn, "torn apart"),
    ("permutation", _in_place, "return new ones"),
    ("permutation", lambda images, order: images.reshape(len(images), -1, 3)[:, order], "the shape is"),
    ("permutation", lambda images, order: images[:, ::-1], "one axis"),
    ("permutation", lambda images, order: images[order], "IndexError"),
    ("same_filters", _kernels(lambda table: table.max(axis=1).mean()), "best match"),
    ("same_filters", _kernels(np.mean), "with all others"),
    ("same_filters", _kernels(axis=0), "last axis"),
    ("same_filters", lambda one, two: np.corrcoef(one.ravel(), two.ravel())[0, 1], "all weights at once"),
    ("same_filters", _kernels(np.trace), "the sum"),
    ("same_filters", lambda one, two: 1.0, "take the mean"),
    ("what_decides", "data", "look again"),
    ("what_decides", "both", "expected"),
    ("calibration", (lambda logits, labels: 1 / BEST(logits, labels), 1.0), "one over"),
    ("calibration", (_temperature(_loss, np.argmax), 1.0), "as sure as can be"),
    ("calibration", (lambda logits, labels: 1.0, 1.0), "accuracy cannot tell"),
    ("calibration", (_temperature(_wrong_answers, lambda found: -1), 1.0), "not minimise the loss on these labels"),
    ("calibration", (lambda logits, labels: np.arange(3), 1.0), "one number"),
    ("calibration", (BEST, None), "still None"),
    ("calibration", (BEST, BEST(*PAIRS[1])), "test images"),
    ("calibration", (BEST, 1.0), "is not temperature"),
    ("serving", lambda picture: json.dumps({"image": (picture / 255).tolist()}).encode(), "two things"),
    ("serving", lambda picture: (json.dumps({"image": picture.tolist()}), JSON), "encode"),
    ("serving", lambda picture: ({"image": picture.tolist()}, JSON), "expected bytes"),
    ("serving", lambda picture: (json.dumps({"image": picture.tolist()}).encode(), "image/png"), "content type"),
    ("serving", lambda picture: (json.dumps({"image": (picture / 255).tolist()}).encode(), JSON), r"send 0\.\.255"),
    ("serving", lambda picture: (json.dumps({"picture": picture.tolist()}).encode(), JSON), "endpoint refuses it"),
    ("serving", lambda picture: (json.dumps({"image": picture}).encode(), JSON), "TypeError"),
    ("serving", lambda picture: (json.dumps({"images": [picture.tolist()] * 2}).encode(), JSON), "2 pictures"),
    ("serving", lambda picture: (json.dumps({"image": (255 - picture).tolist()}).encode(), JSON), "other pixels"),
]  # fmt: skip


def _arguments(name, answer):
    more = PAIRS if name == "calibration" else ()
    return (*answer, *more) if isinstance(answer, tuple) else (answer, *more)


@pytest.mark.parametrize(("name", "answer", "hint"), WRONG, ids=[f"{name}: {hint}" for name, _, hint in WRONG])
def test_a_wrong_answer_gets_its_hint(name, answer, hint):
    with pytest.raises(checks.HintError, match=hint) as said:
        getattr(checks, name)(*_arguments(name, answer))
    assert "\n" not in str(said.value)


def test_every_check_has_wrong_answers_and_knows_an_answer_that_is_still_to_be_written():
    called = {call for cell in SOLUTIONS.cells for call in re.findall(r"^checks\.(\w+)\(", cell.source)}
    assert {name for name, *_ in WRONG} == called

    def unwritten(*_):
        raise NotImplementedError

    for name in called - {"convolution", "what_decides"}:
        answers = {
            "parameters": (unwritten,) * 2,
            "batch_normalisation": (unwritten,) * 2,
            "calibration": (unwritten, 1),
        }
        with pytest.raises(checks.HintError, match="raise NotImplementedError"):
            getattr(checks, name)(*_arguments(name, answers.get(name, unwritten)))


def test_a_notebook_shows_the_hint_alone():
    assert checks.HintError("look there")._render_traceback_() == ["Not yet: look there"]
