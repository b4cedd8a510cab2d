"""How precisely a few seeds, or a few thousand images, determine a number; and what a variant's seeds say together."""

import dataclasses
import math

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.metrics import confusion_matrix
from statsmodels.stats.contingency_tables import mcnemar as mcnemar_test
from statsmodels.stats.proportion import proportion_confint

LEVEL = 0.95
ALPHA = 1 - LEVEL
# The default metric for comparing variants.
HEADLINE = "test_accuracy_best"


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean with its interval: `n` values of standard deviation `sd` (n - 1 in the denominator).

    One value has no interval: its `low`, `high` and `sd` are NaN.
    """

    mean: float
    low: float
    high: float
    n: int
    sd: float


def t_interval(values):
    """Interval of the mean of `values` (n,), one per seed, by Student's t with n - 1 degrees of freedom.

    It covers variation over seeds only: the test images stay the same.
    Source: Student, "The probable error of a mean", Biometrika 6 (1908).
    """
    return _t(values, 0)


def prediction_interval(values):
    """Interval for one further value, such as somebody else's single run.

    mean +- t x sd x sqrt(1 + 1/n). Source: Hahn and Meeker, Statistical Intervals (1991), section 4.8.
    """
    return _t(values, 1)


def _t(values, further):
    """Interval of the mean of `values` if `further` is 0, and of one further value if it is 1."""
    values = np.asarray(values, "float64")
    if values.ndim != 1 or not len(values):
        raise ValueError(f"values have shape {values.shape}; expected (n,), one value per seed, n at least 1")
    n, mean = len(values), float(values.mean())
    if n == 1:
        return Interval(mean, math.nan, math.nan, 1, math.nan)
    sd = float(values.std(ddof=1))
    half = stats.t.ppf((1 + LEVEL) / 2, n - 1) * sd * math.sqrt(further + 1 / n)
    return Interval(mean, mean - half, mean + half, n, sd)


def paired_tests(differences):
    """Paired t-tests of several contrasts, with Holm's correction for their number.

    `differences`: one array (n,) per contrast, of differences by seed; n is at least 2 and may vary. Returns a
    DataFrame, one row per contrast: mean, low, high (the interval of this contrast taken alone), sd, n, p_value,
    p_holm, differs (bool: p_holm < ALPHA). Raises ValueError where a contrast has fewer than two seeds.
    Sources: Student (1908); Holm, "A simple sequentially rejective multiple test procedure",
    Scandinavian Journal of Statistics 6 (1979).
    """
    rows = []
    for values in differences:
        if len(values) < 2:
            raise ValueError(f"a contrast has {len(values)} paired seeds; a paired test needs at least 2")
        interval = t_interval(values)
        rows.append({**dataclasses.asdict(interval), "p_value": _p_value(interval)})
    table = pd.DataFrame(rows)
    table["p_holm"] = _holm(table["p_value"].to_numpy())
    table["differs"] = table["p_holm"] < ALPHA
    return table


def _holm(p_values):
    """`p_values` (n,) with Holm's correction; statsmodels' own runs garbage collection, 0.2 s a call beside Keras."""
    order = p_values.argsort()
    corrected = np.empty(len(p_values))
    corrected[order] = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1)).clip(max=1)
    return corrected


def _p_value(interval):
    """Two-sided p-value of a mean of zero."""
    error = interval.sd / math.sqrt(interval.n)
    # Differences that are all equal, up to rounding: no noise to compare the mean with.
    if error <= 1e-12 * abs(interval.mean) or error == 0:
        return 1.0 if interval.mean == 0 else 0.0
    return float(2 * stats.t.sf(abs(interval.mean) / error, interval.n - 1))


def overlap_spread(n, test_share):
    """Factor on the standard deviation of `n` results from random splits that test a share `test_share` of the rows.

    Their training parts overlap: the variance of the mean is (1/n + test/train) s^2 instead of s^2 / n (Nadeau and
    Bengio, Machine Learning 52, 2003, equation 9).
    """
    return math.sqrt(1 + n * test_share / (1 - test_share))


def mcnemar(labels, first, second):
    """Exact McNemar test of two sets of predictions for the same images; all three are integer classes (n,).

    Returns {only_first, only_second: images that one alone answers correctly; n; p_value; mean: accuracy of the first
    minus that of the second}. It says whether these two trained networks differ, not whether the variants they
    are instances of do.
    Source: McNemar, Psychometrika 12 (1947); Dietterich, Neural Computation 10 (1998).
    """
    labels, first, second = (np.asarray(values) for values in (labels, first, second))
    if not labels.shape == first.shape == second.shape or labels.ndim != 1:
        raise ValueError(
            f"labels and predictions have shapes {labels.shape}, {first.shape}, {second.shape}; expected (n,) for each"
        )
    counts = confusion_matrix(first == labels, second == labels, labels=[True, False])
    (_, only_first), (only_second, _) = counts.tolist()
    mean, p_value = (only_first - only_second) / len(labels), float(mcnemar_test(counts, exact=True).pvalue)
    return {"only_first": only_first, "only_second": only_second, "n": len(labels), "p_value": p_value, "mean": mean}


def share_interval(hits, n):
    """(low, high) of the share of `hits` among `n` images: Wilson's score interval.

    Source: Wilson, Journal of the American Statistical Association 22 (1927); statsmodels.
    """
    return proportion_confint(hits, n, 1 - LEVEL, method="wilson")


def confusion_counts(labels, predicted, class_names):
    """Images by true class (rows) and answer (columns): a DataFrame of counts (classes, classes)."""
    counts = confusion_matrix(labels, predicted, labels=np.arange(len(class_names)))
    return pd.DataFrame(counts, index=pd.Index(class_names, name="true"), columns=pd.Index(class_names, name="answer"))


def largest_errors(counts, most=8):
    """The commonest errors in `confusion_counts`, in order: a DataFrame of true, answer, times, images (of `true`).

    At most `most` rows; fewer where there are fewer kinds of errors.
    """
    table = counts.stack().rename("times").reset_index()
    wrong = table[(table["true"] != table["answer"]) & (table["times"] > 0)]
    largest = wrong.nlargest(most, "times").reset_index(drop=True)
    return largest.assign(images=largest["true"].map(counts.sum(axis=1)))


def per_class(labels, predicted, class_names):
    """Each class's accuracy and what it is most often mistaken for; `labels`, `predicted`: integer classes (n,).

    Returns a DataFrame indexed by class: images, correct, accuracy with its interval low and high (Wilson), taken_for
    (the commonest wrong answer, "" where there is none), times, taken_share (of the class's images). A class without
    images has NaN for its shares.
    """
    counts = confusion_counts(labels, predicted, class_names)
    images, correct = counts.sum(axis=1), pd.Series(np.diag(counts), counts.index)
    wrong = counts.where(~np.eye(len(counts), dtype=bool), 0)
    times = wrong.max(axis=1)
    low, high = share_interval(correct, images.where(images > 0))
    columns = {
        "images": images, "correct": correct, "accuracy": correct / images, "low": low, "high": high,
        "taken_for": wrong.idxmax(axis=1).where(times > 0, ""), "times": times, "taken_share": times / images,
    }  # fmt: skip
    return pd.DataFrame(columns).rename_axis("class")


def paired_differences(frame, first, second, metric):
    """`first` minus `second`, two variants, in the column `metric`: an array with one value per seed that both have.

    Raises ValueError where `check_frame` does, for two rows of one seed, or if no seed has both.
    """
    if first == second:
        raise ValueError(f"{first} is compared with itself; expected two labels")
    check_frame(frame, [first, second], [metric])
    one, other = (frame.loc[frame["label"] == label].set_index("seed")[metric] for label in (first, second))
    if one.index.has_duplicates or other.index.has_duplicates:
        raise ValueError(f"{first} or {second} has two rows of one seed; expected one row per label and seed")
    differences = (one.dropna() - other.dropna()).dropna().sort_index()
    if differences.empty:
        raise ValueError(f"no seed has both {first} and {second}; run the rest of the study")
    return differences.to_numpy()


def check_frame(frame, labels, columns):
    """Raise ValueError unless the tidy `frame` has rows, all of `labels` and all of `columns`."""
    if "label" not in frame or frame.empty:
        raise ValueError("the frame has no rows; run the study first")
    known = frame["label"].unique()
    for label in labels:
        if label not in known:
            raise ValueError(f"the frame has no variant {label!r}; it has {', '.join(known)}")
    for column in columns:
        if column not in frame:
            raise ValueError(f"the frame has no column {column!r}; it has {', '.join(frame)}")


def images_needed(curves, targets):
    """Training images at which each seed's accuracy first reaches its target: float64 (seeds,), infinite if never.

    `curves`: one row per seed, one column per number of images, ascending; `targets`: one accuracy per seed. Linear in
    the logarithm of the images between two sizes; the smallest size where that is already enough.
    """
    sizes, found = np.log(curves.columns.to_numpy("float64")), []
    for seed, target in targets.items():
        accuracy = curves.loc[seed].to_numpy()
        after = int((accuracy >= target).argmax())
        step = slice(max(after - 1, 0), after + 1)
        found.append(np.exp(np.interp(target, accuracy[step], sizes[step])) if accuracy.max() >= target else np.inf)
    return np.array(found)


def seed_spread(correct):
    """How much accuracy varies over seeds, and how much it would if images were right or wrong independently.

    `correct`: bool (seeds, images), seeds at least 2, else ValueError. Returns standard deviations, as shares:
    {observed, with its interval low to high (normal theory: chi-squared); test_noise, what independent errors on so
    many images would give; real, what remains beyond that: what another test set would see}, and n, the seeds. An image
    that a share p of the seeds gets right adds p (1 - p) to the variance of a seed's count of right images, made
    unbiased by seeds / (seeds - 1).
    Source: Jordan, "On the variance of neural network training with respect to test sets and distributions"
    (ICLR 2024), section 3.
    """
    correct = _checked(correct, "correct")
    seeds, images = correct.shape
    if seeds < 2:
        raise ValueError("one seed has no spread; expected at least 2")
    variance = float(correct.mean(axis=1).var(ddof=1))
    share = correct.mean(axis=0)
    noise = float((share * (1 - share)).mean()) * seeds / (seeds - 1) / images
    ends = (seeds - 1) * variance / stats.chi2.ppf([1 - ALPHA / 2, ALPHA / 2], seeds - 1)
    low, high = np.sqrt(ends).tolist()
    real = math.sqrt(max(0.0, variance - noise))
    found = {"observed": math.sqrt(variance), "low": low, "high": high, "test_noise": math.sqrt(noise), "real": real}
    return {**found, "n": seeds}


def vote(predicted, confidence):
    """Answers of an ensemble of the seeds, classes (images,): for each image that with the largest sum of confidences.

    `predicted`: classes (seeds, images), each seed's answer; `confidence`: the same shape, in 0..1. What a seed gives
    the other classes is not in the record and counts as nothing; ties go to the first class.
    """
    predicted = _checked(predicted, "predicted")
    sums, images = np.zeros((predicted.max() + 1, predicted.shape[1])), np.arange(predicted.shape[1])
    for answers, sure in zip(predicted, np.asarray(confidence, "float64"), strict=True):
        sums[answers, images] += sure
    return sums.argmax(axis=0)


def ensemble_gain(predicted, confidence, labels):
    """(accuracy of the `vote`, Interval of its gain over the mean seed): over images, for the networks given."""
    right = vote(predicted, confidence) == labels
    single = (np.asarray(predicted) == labels).mean(axis=0)
    return float(right.mean()), t_interval(right - single)


def contradicted(predicted, confidence, labels):
    """Rows of images where all seeds give the same answer against `labels` (images,), the most confident first.

    `predicted`, `confidence`: as in `vote`. Suspect labels, or images that mislead every seed: worth looking at.
    """
    predicted = _checked(predicted, "predicted")
    suspect = np.flatnonzero((predicted == predicted[0]).all(axis=0) & (predicted[0] != labels))
    sure = np.asarray(confidence, "float64").mean(axis=0)[suspect]
    return suspect[np.argsort(-sure, kind="stable")]


def _checked(values, name):
    values = np.asarray(values)
    if values.ndim != 2 or not values.size:
        raise ValueError(f"{name} has shape {values.shape}; expected (seeds, images), at least one of each")
    return values
