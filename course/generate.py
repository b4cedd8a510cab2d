"""From course/solutions.ipynb: the students' notebook, and the table of exercises in INSTRUCTOR.md.

Without an option it writes exercises.ipynb, in which a stub stands for what is between BEGIN SOLUTION and END SOLUTION,
as `nbgrader generate_assignment` has it. --check runs the reference answers, too; --timings also writes the seconds
that they took into INSTRUCTOR.md.
"""

import argparse
import copy
import re
import sys
import time
from itertools import count
from pathlib import Path

import nbformat

from cnnlab import machine

COURSE = Path(__file__).resolve().parent
SOLUTIONS, EXERCISES, INSTRUCTOR = (COURSE / name for name in ("solutions.ipynb", "exercises.ipynb", "INSTRUCTOR.md"))
SOLUTION = re.compile(r"^( *)### BEGIN SOLUTION\n.*?^ *### END SOLUTION$", re.DOTALL | re.MULTILINE)
STUB = r"\1# YOUR CODE HERE\n\1raise NotImplementedError()"
HEADING = re.compile(r"## (\d+)\. (.+)\n\n\*(\w+)\. Points: (\d+)\. (\w+)\. Minutes: (\d+)\.\*")
TABLE = re.compile(r"(<!-- begin:exercises -->\n).*?(<!-- end:exercises -->)", re.DOTALL)


def student_version(solutions):
    """A copy of the notebook without solutions, outputs and execution counts."""
    notebook = copy.deepcopy(solutions)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.source, cell.outputs, cell.execution_count = SOLUTION.sub(STUB, cell.source), [], None
    return notebook


def exercises(solutions):
    """A list of (number, title, what it is graded as, points, difficulty, minutes), text all of them."""
    return [found.groups() for cell in solutions.cells if (found := HEADING.match(cell.source))]


def run(solutions):
    """Run all cells of the notebook in this process; returns {number of an exercise: seconds}, 0 being what is before.

    Raises what a cell raises.
    """
    names, seconds, number = {"__name__": "course"}, {}, 0
    sys.path.insert(0, str(COURSE))
    try:
        for cell, place in zip(solutions.cells, count(), strict=False):
            if cell.cell_type == "markdown":
                number = int(found[1]) if (found := HEADING.match(cell.source)) else number
                continue
            begin = time.perf_counter()
            exec(compile(cell.source, f"cell {place} of the notebook", "exec"), names)  # noqa: S102 - our own notebook
            seconds[number] = seconds.get(number, 0) + time.perf_counter() - begin
    finally:
        sys.path.remove(str(COURSE))
    return seconds


def table(rows, seconds):
    """The exercises as a Markdown table, with the `seconds` that each takes here."""
    lines = [
        "| | Exercise | Graded as | Points | Difficulty | Minutes | Seconds to run |",
        "|:--|:--|:--|--:|:--|--:|--:|",
    ]
    lines += [f"| {' | '.join(row)} | {seconds[int(row[0])]:.0f} |" for row in rows]
    points, minutes = (sum(int(row[place]) for row in rows) for place in (3, 5))
    lines.append(f"| | all, with what is loaded before them | | {points} | | {minutes} | {sum(seconds.values()):.0f} |")
    return "\n".join(lines) + f"\n\nRun on {machine.environment()['cores']} cores ({machine.cpu_name()}).\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="run the reference answers")
    parser.add_argument("--timings", action="store_true", help="run them, and write the seconds into INSTRUCTOR.md")
    options = parser.parse_args()
    solutions = nbformat.read(SOLUTIONS, as_version=4)
    with machine.atomic_file(EXERCISES) as partial:
        nbformat.write(student_version(solutions), partial)
    if options.check or options.timings:
        seconds = run(solutions)
        print(f"all {len(exercises(solutions))} exercises pass, in {sum(seconds.values()):.0f} seconds")
    if options.timings:
        block = table(exercises(solutions), seconds)
        text = INSTRUCTOR.read_text(encoding="utf-8")
        INSTRUCTOR.write_text(TABLE.sub(rf"\g<1>{block}\g<2>", text), encoding="utf-8")


if __name__ == "__main__":
    main()
