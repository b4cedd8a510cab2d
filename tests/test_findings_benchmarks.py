"""What benchmarks print and keep, and what is said of it against the aims."""

import datetime
import json

import pandas as pd
import pytest

from cnnlab import machine, report
from cnnlab.findings import benchmarks as benchmark_findings
from cnnlab.findings.benchmarks import AIMS, THROUGHPUT
from cnnlab.findings.benchmarks import HANDLER_LATENCY as HANDLER
from cnnlab.findings.benchmarks import LOADING_COST as LOADING
from cnnlab.findings.benchmarks import MARS_RUN as MARS
from cnnlab.findings.benchmarks import MIXED_LOAD as MIXED
from cnnlab.findings.benchmarks import NOTEBOOK_RUN as NOTEBOOK
from cnnlab.findings.benchmarks import RATE_SHARE as CEILING
from cnnlab.findings.benchmarks import RECIPE_TURNS as RECIPES
from cnnlab.findings.benchmarks import SERVER_LOAD as SERVER
from cnnlab.findings.benchmarks import SERVER_SHARE as SHARE
from cnnlab.findings.benchmarks import TIME_TO_TARGET as TARGET

TABLES = {
    THROUGHPUT: pd.DataFrame(
        {"way": ["published: plain", "here, float32", "here, fast", "other"], "times_published": [1.0, 1.2, 2.3, 0.9]}
    ),
    RECIPES: pd.DataFrame({"recipe": ["published", "to_93"], "baseline_times": [1.0, 2.5]}),
    CEILING: pd.DataFrame(
        {"filters": ["matrix product", "4", "8", "16", "32"], "share": [1.0, 0.4, 0.56, 0.7, 0.8],
         "share_large": [1.0, 0.5, 0.6, 0.74, 0.9], "large_batch": 256}
    ),
    LOADING: pd.DataFrame(
        {
            "way": ["keras.datasets", "here"],
            "peak_MB": [800.0, 200.0],
            "seconds_ratio": [1.0, 0.5],
            "peak_MB_ratio": [1, 0.25],
        }
    ),
    TARGET: pd.DataFrame(
        {
            "recipe": ["published", "to_74"],
            "test_accuracy": [0.72, 0.78],
            "seconds": [300.0, 30.0],
        }
    ),
    NOTEBOOK: pd.DataFrame({"minutes": [9.0], "peak_MB": [1500.0]}),
    MARS: pd.DataFrame({"minutes": [4.0], "peak_MB": [1600.0]}),
    HANDLER: pd.DataFrame(
        {"batch": [1, 1, 1, 64], "way": ["published", "packed, JSON", "packed, npy", "packed, JSON"],
         "times_faster": [1.0, 20.0, 30.0, 7.0]}
    ),
    SERVER: pd.DataFrame({"clients": [1, 8], "requests_per_second": [600.0, 1500.0], "errors": [0, 0]}),
    SHARE: pd.DataFrame({"ratio": [1.4, 0.6]}),
    MIXED: pd.DataFrame({"clients": [64], "unexpected": [0], "MB_before": [500.0], "MB_after": [505.0]}),
}  # fmt: skip


def said(title, aims=AIMS):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark_findings, "AIMS", aims)
        (finding,) = benchmark_findings.benchmark_findings({title: TABLES[title]})
    return finding


@pytest.mark.parametrize(
    ("title", "name", "number"),
    [
        (THROUGHPUT, "times_published", 2.3),
        (CEILING, "shares", [0.4, 0.56, 0.7, 0.8]),
        (LOADING, "seconds_ratio", 0.5),
        (TARGET, "baseline_times", 0.1),
        (NOTEBOOK, "peak_MB", 1500),
        (MARS, "peak_MB", 1600),
        (HANDLER, "least", 7.0),
        (SERVER, "errors", 0),
        (SHARE, "share", 0.6),
        (MIXED, "growth", pytest.approx(0.01)),
    ],
)
def test_each_table_says_what_it_shows(title, name, number):
    finding = said(title)
    assert finding.numbers["reached"] is True
    assert finding.numbers[name] == number


@pytest.mark.parametrize(
    ("title", "aim", "end"),
    [(THROUGHPUT, {"speedup": 2.4}, "is missed."), (NOTEBOOK, {"peak_MB": 1500}, "over the aim of 1,500.")],
)
def test_an_aim_that_is_missed_is_called_so(title, aim, end):
    finding = said(title, AIMS._replace(**aim))
    assert finding.numbers["reached"] is False
    assert finding.sentence.endswith(end)


def test_of_two_aims_one_may_be_missed():
    for aims, end in (
        ({"server_times": 1.3}, "one aim reached, one missed."),
        ({"server_share": 0.7}, "one aim reached, one missed."),
        ({"server_times": 1.3, "server_share": 0.7}, "the aims are missed."),
    ):
        finding = said(SHARE, AIMS._replace(**aims))
        assert finding.numbers["reached"] is False
        assert finding.sentence.endswith(end)
    assert said(SHARE).sentence.endswith("the aims are reached.")


def test_a_rate_that_only_large_batches_come_near_is_called_so():
    finding = said(CEILING, AIMS._replace(shares=(0.35, 0.55, 0.72, 0.85)))
    assert finding.numbers["reached"] is False
    assert finding.sentence.endswith(": two of four reach the aim, four of four in larger batches.")
    assert ": none of four reach the aim." in str(said(CEILING, AIMS._replace(shares=(0.99,) * 4)))


def test_measured_is_printed_kept_and_read_back(tmp_path, capsys):
    path = tmp_path / "new" / "training.json"
    measured = benchmark_findings.run_benchmarks({title: lambda t=title: TABLES[t] for title in TABLES}, "a test", path)
    printed = capsys.readouterr().out
    assert printed.startswith("a test; ")
    for finding in benchmark_findings.benchmark_findings(TABLES):
        assert finding.sentence in printed
    kept = benchmark_findings.read_benchmarks(path.parent)
    assert list(kept) == list(measured) == list(TABLES)
    record = report.Record(frames={})
    record.benchmarks = kept
    section = report.CHAPTERS["benchmarks"].section("benchmarks", record)
    for finding in benchmark_findings.benchmark_findings(TABLES):
        assert finding.sentence in section
    assert f"Measured on {datetime.datetime.now(datetime.UTC):%Y-%m-%d} ({machine.cpu_name()})." in section
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_what_was_measured_before_a_failure_is_kept(tmp_path):
    def fail():
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        benchmark_findings.run_benchmarks(
            {NOTEBOOK: lambda: TABLES[NOTEBOOK], SERVER: fail},
            output=tmp_path / "any.json",
        )
    assert list(benchmark_findings.read_benchmarks(tmp_path)) == [NOTEBOOK]


def test_what_is_not_measured_again_is_kept_unless_of_another_machine(tmp_path):
    path = tmp_path / "any.json"
    for title in (NOTEBOOK, SERVER):
        benchmark_findings.run_benchmarks({title: lambda title=title: TABLES[title]}, output=path)
    assert list(benchmark_findings.read_benchmarks(tmp_path)) == [NOTEBOOK, SERVER]
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"machine": {"cpu": "another"}}))
    benchmark_findings.run_benchmarks({TARGET: lambda: TABLES[TARGET]}, output=path)
    assert list(benchmark_findings.read_benchmarks(tmp_path)) == [TARGET]


def test_machines_lie_side_by_side_and_of_one_title_the_last_counts(tmp_path):
    for name, when, cpu, minutes in (("a", "2026-02", "new", 5.0), ("b", "2026-01", "old", 7.0)):
        tables = {NOTEBOOK: {"finished": when, "rows": [{"minutes": minutes}]}}
        (tmp_path / f"{name}.json").write_text(json.dumps({"machine": {"cpu": cpu}, "tables": tables}))
    table = benchmark_findings.read_benchmarks(tmp_path)[NOTEBOOK]
    assert (table["minutes"].tolist(), table.attrs["cpu"]) == ([5.0], "new")


def test_without_a_record_the_readme_says_how_to_make_one(tmp_path):
    record = report.Record(frames={})
    record.benchmarks = benchmark_findings.read_benchmarks(tmp_path)
    assert "make bench" in report.CHAPTERS["benchmarks"].answer(record)
