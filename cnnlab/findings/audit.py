"""The audit of published claims: claim, published value, measured value, verdict; all of it by code.

A number, which comes from one unseeded run: "holds" where the value, as far as its digits go, lies in the 95%
t-interval of the mean over seeds; "within noise" where it lies only in the 95% prediction interval of one further run;
else "contradicted". An exact quantity (a count, a formula) holds or is contradicted. An open claim such as >800000
stands for all the values that it allows.

A direction ("beats", "monotone increasing", "most"): each difference that the claim says is positive is tested, paired
by seed, with Holm's correction. "holds" where all are positive, "contradicted" where any is negative, else "within
noise". An absence ("none", "not significant"): "holds" where no difference is found, "contradicted" where one is.

A claim that would hold or be within noise only because the mean is known no better than to WIDE is "cannot tell". "not
testable": nothing was measured, or only one run, which has no interval. Each claim is judged alone, without a
correction for their number.
"""

import math
import re
from decimal import Decimal
from pathlib import Path

import pandas as pd

from cnnlab.findings.finding import CANNOT_TELL, Finding
from cnnlab.findings.tables import with_interval
from cnnlab.measures import NotMeasuredError, measure_claim, paired_tests, prediction_interval, t_interval
from cnnlab.wording import from_to, listing, p_value, percent, points, signed_points

CLAIMS = Path("results") / "published_claims.csv"
HOLDS, WITHIN_NOISE, CONTRADICTED, NOT_TESTABLE = "holds", "within noise", "contradicted", "not testable"
# A claim of several parts is as good as its worst part: later in this list is worse.
VERDICTS = (HOLDS, WITHIN_NOISE, CANNOT_TELL, NOT_TESTABLE, CONTRADICTED)
ABSENCES = ("none", "not significant")
# Half the width of a 95% interval, a share: published rivals lie a few points apart, and an accuracy known only to
# within five cannot tell them apart.
WIDE = 0.05
# How a quantity is written, by its unit.
WRITERS = {
    "share": percent,
    "points": signed_points,
    "count": "{:,.0f}".format,
    "fewer": "{:,.0f} fewer".format,
    "number": "{:.2f}".format,
}


def audit_claims(path, evidence, dataset=None):
    """A verdict on each of the claims in the CSV file `path` by `evidence` (from `measures.gather_evidence`).

    `dataset`: whose claims, by the file's own column (None: all). Returns the claims (source, dataset, id, claim,
    quantity, published: text) with the columns measured (text), value, low, high (95%; NaN where there is none), n
    (seeds, 0 for an exact quantity), unit, verdict (one of VERDICTS) and reason.
    """
    claims = pd.read_csv(path, dtype=str, keep_default_na=False)
    asked = claims if dataset is None else claims[claims["dataset"] == dataset]
    return pd.DataFrame([{**claim, **_judge(claim, evidence)} for claim in asked.to_dict("records")])


def audit_table(audited):
    """The audit as a table of text, ready for Markdown."""
    table = audited[["claim", "source", "published", "measured", "verdict", "reason"]].copy()
    table["published"] = [_published(row) for row in audited.itertuples()]
    return table.rename(columns=str.capitalize).rename(columns={"Reason": "Why"})


def audit_summary(audited):
    """How many claims have each verdict, as a Finding without a verdict of its own; `numbers` has all counts."""
    counts = {verdict: int((audited["verdict"] == verdict).sum()) for verdict in VERDICTS}
    rest = "; the rest remain open" if counts[HOLDS] + counts[CONTRADICTED] < len(audited) else ""
    sentence = (
        f"Of {len(audited)} published claims, {counts[HOLDS]} hold and {counts[CONTRADICTED]} are contradicted{rest}."
    )
    return Finding(sentence, None, counts)


def _judge(claim, evidence):
    published = claim["published"]
    try:
        judged = [_judge_part(part, published) for part in measure_claim(evidence, claim["quantity"], published)]
    except NotMeasuredError as error:
        none = dict.fromkeys(("value", "low", "high"), math.nan)
        return {"verdict": NOT_TESTABLE, "reason": str(error), "measured": "", **none, "n": 0, "unit": ""}
    texts = {name: "; ".join(each[name] for each in judged) for name in ("measured", "reason")}
    return {**judged[0], **texts, "verdict": max((each["verdict"] for each in judged), key=VERDICTS.index)}


def _judge_part(part, published):
    """The judgement on one part of a claim: its verdict, and what was measured, written out and in numbers."""
    number, absence = parse_number(published, part.unit), published in ABSENCES
    intervals = [t_interval(values) for values in part.contrasts]
    n, first = 0 if part.exact else min(each.n for each in intervals), intervals[0]
    if part.exact:
        verdict, reason = _judge_exact(part, number, absence)
    elif n < 2:
        verdict, reason = NOT_TESTABLE, "one run has no interval: run more seeds"
    else:
        verdict, reason = _judge_differences(part, absence) if number is None else _judge_number(part, *number)
    texts = ", ".join(with_interval(each.mean, each.low, each.high, WRITERS[part.unit]) for each in intervals)
    return {
        "verdict": verdict,
        "reason": f"{part.note}: {reason}" if part.note else reason,
        "measured": f"{texts}{' percentage points' * (part.unit == 'points')}{f', n = {n}' if n else ''}",
        "value": first.mean, "low": first.low, "high": first.high, "n": n, "unit": part.unit,
    }  # fmt: skip


def parse_number(published, unit="number"):
    """(low, high) that a published number allows, or None where it is words.

    '0.4697' stands for 0.46965 to 0.46975, '6.4M' for 6.35 to 6.45 million, '>800000' for anything
    above. With `unit` "points" the number is in percentage points, and the result is a share.
    """
    match = re.fullmatch(r"(>?)(\d+(?:\.\d+)?)(M?)", published)
    if not match:
        return None
    open_ended, digits, millions = match.groups()
    scale = (1e6 if millions else 1) / (100 if unit == "points" else 1)
    value, half = float(digits) * scale, 10.0 ** Decimal(digits).as_tuple().exponent * scale / 2
    return (math.nextafter(value, math.inf), math.inf) if open_ended else (value - half, value + half)


def _judge_exact(part, number, absence):
    value = float(part.contrasts[0][0])
    if number is None:
        return HOLDS if (value == 0 if absence else value > 0) else CONTRADICTED, "exact"
    low, high = number
    if low <= value <= high:
        return HOLDS, "equal to the digits given" if high < math.inf else "exact"
    gap = low - value if high == math.inf else (low + high) / 2 - value
    size = WRITERS[part.unit](abs(gap)).lstrip("+")
    return CONTRADICTED, f"the published figure is {size} too {'high' if gap > 0 else 'low'}"


def _judge_number(part, low, high):
    mean, one_run = t_interval(part.contrasts[0]), prediction_interval(part.contrasts[0])
    span = from_to(one_run.low, one_run.high, WRITERS[part.unit])
    if one_run.low > high or low > one_run.high:
        return CONTRADICTED, f"outside {span}, where one run would lie"
    if _wide(part, mean):
        return CANNOT_TELL, f"the mean is known only to within {points(mean.high - mean.mean)}"
    if mean.low <= high and low <= mean.high:
        return HOLDS, "inside the interval of the mean"
    return WITHIN_NOISE, f"one run may lie anywhere from {span}"


def _judge_differences(part, absence):
    tests = paired_tests(part.contrasts)
    found, up = tests["differs"], tests["mean"] > 0
    reason = f"{listing(p_value(value) for value in tests['p_holm'])}{' after Holm' * (len(tests) > 1)}"
    if (found if absence else found & ~up).any():
        return CONTRADICTED, reason
    if any(_wide(part, test) for test in tests[~found].itertuples()):
        return CANNOT_TELL, f"{reason}; the intervals are too wide to say"
    return HOLDS if absence or found.all() else WITHIN_NOISE, reason


def _wide(part, interval):
    """Whether the 95% interval of a mean share is too wide to support a claim."""
    return part.unit in ("share", "points") and (interval.high - interval.low) / 2 > WIDE


def _published(row):
    """The published value, written like the measured one: an accuracy of 0.4697 becomes 46.97%."""
    if (row.unit == "share" or row.quantity.endswith("_accuracy")) and parse_number(row.published):
        return f"{Decimal(row.published).scaleb(2):f}%"
    return row.published
