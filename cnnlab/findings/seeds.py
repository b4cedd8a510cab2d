"""What the seeds of a variant say together: real variance or test noise, what a vote gains, suspect labels."""

import pandas as pd

from cnnlab import measures
from cnnlab.findings.finding import CANNOT_TELL, SAME, WORSE, Finding, judge
from cnnlab.studies import NAMES
from cnnlab.wording import capital, family, from_to, percent, points, readable, signed_points, spelled

# A spread that may be so many times that of test noise is not called test noise.
NOISE_RATIO = 2.0


def named(label):
    """A variant in a sentence, a recipe or one of the assignment's networks."""
    return NAMES.get(label, family(label))


def spread(label, correct):
    """Whether the accuracies of `label`'s seeds differ more than test noise explains; `correct`: bool (seeds, images).

    Its verdict is "worse" where they do, "same" where the interval of their standard deviation ends below NOISE_RATIO
    times that of test noise.
    """
    found = measures.seed_spread(correct)
    name, observed, noise = capital(named(label)), points(found.observed), points(found.test_noise)
    if found.low > found.test_noise:
        verdict, sentence = WORSE, f"{name} really varies by seed: by {observed}, where test noise alone gives {noise}."
    elif found.high < NOISE_RATIO * found.test_noise:
        verdict, sentence = SAME, f"{name} varies by {observed} between seeds, as test noise alone would: {noise}."
    else:
        verdict = CANNOT_TELL
        sentence = f"{name} varies by {observed} between seeds, test noise alone by {noise}: cannot tell them apart."
    return Finding(sentence, verdict, vars(found))


def ensemble(label, predicted, confidence, labels):
    """What a vote of `label`'s seeds has more than one of them; arguments as of `measures.ensemble_gain`."""
    accuracy, gain = measures.ensemble_gain(predicted, confidence, labels)
    verdict = judge((gain.low, gain.high), 0.0)
    numbers = {"accuracy": accuracy, "gain": gain.mean, "low": gain.low, "high": gain.high, "n": len(predicted)}
    said = f"A vote of {spelled(len(predicted))} seeds of {named(label)} answers {percent(accuracy)} rightly"
    more = f"{points(gain.mean)} {'more' if gain.mean > 0 else 'less'} than one of them"
    return Finding(f"{said}, {more}." if verdict != CANNOT_TELL else f"{said}: no gain can be told.", verdict, numbers)


def suspect_labels(label, predicted, confidence, labels):
    """How many labels all seeds of `label` contradict with one answer, and its accuracy without these images."""
    rows = measures.contradicted(predicted, confidence, labels)
    right = (predicted == labels).mean(axis=0)
    kept = pd.Series(right).drop(rows).mean()
    sentence = (
        f"All {spelled(len(predicted))} seeds of {named(label)} contradict {len(rows):,} labels with one answer; "
        f"without these images accuracy is {percent(kept)}."
    )
    numbers = {"images": len(rows), "accuracy": float(right.mean()), "without": float(kept), "n": len(predicted)}
    return Finding(sentence, None, numbers)


def seeds_table(answers, labels):
    """A row a variant of `answers` ({label: (predicted, confidence)}): its spread over seeds, and its vote."""
    rows = []
    for label, (predicted, confidence) in answers.items():
        found = measures.seed_spread(predicted == labels)
        accuracy, gain = measures.ensemble_gain(predicted, confidence, labels)
        rows.append(
            {
                "Network": NAMES.get(label, readable(label)),
                "Seeds": found.n,
                "Mean accuracy": percent((predicted == labels).mean()),
                "SD over seeds, points": f"{100 * found.observed:.2f}",
                "95% interval": from_to(100 * found.low, 100 * found.high, "{:.2f}".format),
                "SD of test noise": f"{100 * found.test_noise:.2f}",
                "Accuracy of their vote": percent(accuracy),
                "Gain": signed_points(gain.mean),
                "95% interval of the gain": from_to(gain.low, gain.high, signed_points),
            }
        )
    return pd.DataFrame(rows)
