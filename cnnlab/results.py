"""What `cnnlab report` writes from the record: results/, with RESULTS.md, the figures, and the README's blocks."""

import json
import re
from pathlib import Path

import pandas as pd

from cnnlab import figures, findings, studies
from cnnlab.findings import HEADLINE, study_table
from cnnlab.measures import AUGMENTED
from cnnlab.record import MARS_CNN, RECORD, Record, compact, picture
from cnnlab.report import CHAPTERS, drawings
from cnnlab.studies import TARGETS
from cnnlab.wording import duration, readable, whole_points

README, RESULTS = Path("README.md"), Path("results") / "RESULTS.md"
NOTEBOOKS = ("cnn_assignment.ipynb", "cnn_exploration.ipynb")
BLOCK = re.compile(r"(<!-- begin:(\S+) -->\n).*?(<!-- end:\2 -->)", re.DOTALL)
# Bookkeeping columns that the tables leave out; each row's own file keeps them.
UNTABLED = ["options", "class_names", "finished", "python", "numpy", "data_version"]
# The README's table: study, label, metric, data.
SUMMARY = (
    ("baselines", "dense_128_64", HEADLINE, "CIFAR-10"),
    ("filters", "cnn_32_64_128", HEADLINE, "CIFAR-10"),
    ("filters", "cnn_128_256_512", HEADLINE, "CIFAR-10"),
    ("targets", "to_74", AUGMENTED, "CIFAR-10"),
    ("targets", "to_93", AUGMENTED, "CIFAR-10"),
    ("targets", "to_94", AUGMENTED, "CIFAR-10"),
    ("mars_ladder", MARS_CNN, HEADLINE, "Mars"),
    ("mars_ladder", studies.MARS_PROBE_ALL.label, "test_accuracy_last", "Mars"),
)
# The chapters whose question and one-line answer the README shows.
QUESTIONS = ("filters", "permutation", "sample_size", "shift", "targets")
PREFACE = f"""# Results

Every number on this page is computed from the rows in this folder, by `make report`.

**How to read it.** An accuracy is a mean over seeds, with its 95% t-interval: where the mean over many more seeds would
lie, by a procedure that is right 95 times in 100. Differences are paired, seed by seed, and *p* is after Holm's
correction for the comparisons made together. *Same* is a difference within {whole_points(findings.MARGIN)} by an
equivalence test; *cannot tell* is one whose interval is too wide to decide. The loss is from the accuracy's epoch.
Processor time is the median over the seeds trained without a GPU, summed over cores; the machines did other work
meanwhile, so ignore differences below a factor of two. [PROTOCOL.md](PROTOCOL.md) says which choices the test images
influenced, and what makes a row valid."""


def rebuild(root=None):
    """Write the studies' CSVs, the record's figures, RESULTS.md and the README's blocks under `root` (None: the lab's).

    The same rows give the same bytes. Returns the paths written. Raises ValueError, with nothing written, where nothing
    is recorded or the README has a block that nothing fills, and FileNotFoundError where there is no README.
    """
    record = Record(root)
    if not record:
        raise ValueError(f"{record.store.folder} holds no finished trials; run a study first")
    readme, results = record.root / README, record.root / RESULTS
    filled = fill(readme.read_text(encoding="utf-8"), blocks(record))
    written = [write_table(name, frame, record.root) for name, frame in record.items()]
    for name, draw in drawings(record).items():
        written.append(figures.save_figure(draw(), name, record.root / "images", RECORD.label))
    results.write_text(results_page(record), encoding="utf-8")
    readme.write_text(filled, encoding="utf-8")
    return [*written, results, readme]


def results_page(record):
    """The text of RESULTS.md: how to read it, a list of contents, and one section per chapter."""
    contents = "\n".join(f"- [{chapter.question}](#{name})" for name, chapter in CHAPTERS.items())
    sections = (chapter.section(name, record) for name, chapter in CHAPTERS.items())
    return "\n\n".join([PREFACE, contents, *sections]) + "\n"


def blocks(record):
    """{block name: Markdown} for every measured statement in the README."""
    said = CHAPTERS["answer"].findings(record)
    notebooks = (findings.NOTEBOOK_RUN, findings.MARS_RUN)
    cost = {title: table for title, table in record.benchmarks.items() if title in notebooks}
    return {
        "answer": "\n\n".join([picture("performance_vs_parameters"), " ".join(map(str, said))]),
        "questions": "\n".join(
            f"- **[{CHAPTERS[name].question}]({RESULTS.as_posix()}#{name})** {CHAPTERS[name].answer(record)}"
            for name in QUESTIONS
        ),
        "cost": " ".join(map(str, findings.benchmark_findings(cost))),
        "chapters": chapter_table(record.root),
        "results": compact(summary(record)),
        "mars": "\n\n".join([CHAPTERS["mars_ladder"].answer(record), picture("mars_ladder")]),
    }


def fill(text, content):
    """`text` with each `<!-- begin:NAME -->...<!-- end:NAME -->` block holding content[NAME]."""

    def put(match):
        begin, name, end = match.groups()
        if name not in content:
            raise ValueError(f"the README has a block {name!r} that nothing fills; expected {', '.join(content)}")
        return f"{begin}{content[name].strip()}\n{end}"

    return BLOCK.sub(put, text)


def write_table(name, frame, root):
    """Write the tidy rows of study `name` as results/<name>.csv under `root`; returns the path."""
    path = Path(root) / "results" / f"{name}.csv"
    frame.drop(columns=UNTABLED, errors="ignore").to_csv(path, index=False, float_format="%.6g")
    return path


def chapter_table(root):
    """The notebooks' chapter headings side by side, as a Markdown table."""
    columns = []
    for name in NOTEBOOKS:
        path = root / name
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"] if path.exists() else []
        prose = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        chapters = re.findall(r"^## (\d+\..*)$", prose, re.MULTILINE)
        columns.append(pd.Series(chapters, name=f"[{path.stem}]({name})", dtype=object))
    return compact(pd.concat(columns, axis=1).fillna(""))


def summary(record):
    """The README's table, one row for each of SUMMARY: accuracy with its interval over seeds, and time of one training.

    Recipes with a target answer with the mean over several views.
    """
    rows = []
    for study, label, metric, data in SUMMARY:
        frame = record.get(study, pd.DataFrame(columns=["label", "seed"]))
        wanted = frame[frame["label"] == label]
        if wanted.empty:
            continue
        (row,) = study_table(wanted, metric).to_dict("records")
        rows.append(
            {
                "Network": f"recipe `{label}`" if label in TARGETS else readable(label),
                "Data": data,
                **{column: row[column] for column in ("Test accuracy", "95% interval", "Seeds")},
                "Training": duration(wanted["seconds"].median()),
            }
        )
    return pd.DataFrame(rows)
