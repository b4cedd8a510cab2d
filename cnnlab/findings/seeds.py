"""What the seeds of a variant say together: real variance or test noise, what a vote gains, suspect labels.

`answers` here: {label: (predicted, confidence)}, each (seeds, images), as of `measures.ensemble_gain`.
"""

import dataclasses

import pandas as pd

from cnnlab import measures
from cnnlab.findings.finding import BETTER, CANNOT_TELL, SAME, WORSE, Finding, judge
from cnnlab.studies import NAMES
from cnnlab.wording import capital, family, from_to, listing, percent, points, readable, signed_points, spelled

# A spread that may be so many times that of test noise is not called test noise.
NOISE_RATIO = 2.0


def named(label):
    """A variant in a sentence, a recipe or one of the assignment's networks."""
    return NAMES.get(label, family(label))


def spread(answers, labels):
    """Of which variants the accuracies of seeds differ more than test noise explains.

    `numbers`: of each label its `measures.seed_spread` and a verdict: "worse" where they do, "same" where the interval
    of their standard deviation ends below NOISE_RATIO times that of test noise. The Finding's is the worst of them.
    """
    numbers = {}
    for label, (predicted, _) in answers.items():
        found = measures.seed_spread(predicted == labels)
        verdict = SAME if found.high < NOISE_RATIO * found.test_noise else CANNOT_TELL
        verdict = WORSE if found.low > found.test_noise else verdict
        numbers[label] = {**dataclasses.asdict(found), "verdict": verdict}
    verdicts = [found["verdict"] for found in numbers.values()]
    varied = [named(label) for label, found in numbers.items() if found["verdict"] == WORSE]
    rest = f"; of {spelled(verdicts.count(CANNOT_TELL))}, cannot tell" if CANNOT_TELL in verdicts else ""
    sentence = f"{capital(listing(varied or ['no network']))} varied by seed more than test noise explains{rest}."
    verdict = max(verdicts, key=(SAME, CANNOT_TELL, WORSE).index)
    return Finding(sentence, verdict, numbers, tuple(varied))


def ensemble(answers, labels):
    """What a vote of the seeds has more than one of them, where least and where most.

    `numbers`: of each label accuracy, gain, low and high; the verdict is "better" where all the gains can be told.
    """
    numbers = {}
    for label, each in answers.items():
        accuracy, gain = measures.ensemble_gain(*each, labels)
        numbers[label] = {"accuracy": accuracy, "gain": gain.mean, "low": gain.low, "high": gain.high}
    told = all(judge((found["low"], found["high"]), 0.0) == BETTER for found in numbers.values())
    ranked = sorted(numbers, key=lambda label: numbers[label]["gain"])
    ends = list(dict.fromkeys([ranked[0], ranked[-1]]))
    gains = listing(f"{points(numbers[label]['gain'])} to {named(label)}" for label in ends)
    meaning = "seeds err on different images" if told else "cannot tell whether it always helps"
    sentence = f"A vote of the seeds adds {gains}: {meaning}."
    return Finding(sentence, BETTER if told else CANNOT_TELL, numbers, tuple(map(named, ends)))


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
    """A row a variant of `answers`: its spread over seeds, and its vote."""
    spreads, votes = spread(answers, labels).numbers, ensemble(answers, labels).numbers
    return pd.DataFrame(
        {
            "Network": NAMES.get(label, readable(label)),
            "Seeds": found["n"],
            "Mean accuracy": percent((answers[label][0] == labels).mean()),
            "SD over seeds, points": f"{100 * found['observed']:.2f}",
            "95% interval": from_to(100 * found["low"], 100 * found["high"], "{:.2f}".format),
            "SD of test noise": f"{100 * found['test_noise']:.2f}",
            "Accuracy of their vote": percent(votes[label]["accuracy"]),
            "Gain": signed_points(votes[label]["gain"]),
            "95% interval of the gain": from_to(votes[label]["low"], votes[label]["high"], signed_points),
        }
        for label, found in spreads.items()
    )
