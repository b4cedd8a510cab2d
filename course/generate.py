"""Make the students' notebook, and the table of exercises in INSTRUCTOR.md, from course/solutions.ipynb.

Without options it writes exercises.ipynb, with a stub for whatever stands between BEGIN SOLUTION and END SOLUTION, as
`nbgrader generate_assignment` makes it. --check writes nothing and runs the reference answers; --timings also writes
the processor seconds that they take into INSTRUCTOR.md.
"""

import argparse
import copy
import re
import sys
import time
from pathlib import Path

import nbformat

from cnnlab import machine

COURSE = Path(__file__).resolve().parent
SOLUTIONS, EXERCISES, INSTRUCTOR = (COURSE / name for name in ("solutions.ipynb", "exercises.ipynb", "INSTRUCTOR.md"))
SOLUTION = re.compile(r"^( *)### BEGIN SOLUTION\n.*?^ *### END SOLUTION$", re.DOTALL | re.MULTILINE)
STUB = r"\1# YOUR CODE HERE\n\1raise NotImplementedError()"
# Its groups: number, title, what it is graded as, points, difficulty, minutes.
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
    """The groups of HEADING for each exercise: a list of tuples of strings."""
    return [found.groups() for cell in solutions.cells if (found := HEADING.match(cell.source))]


def run(solutions):
    """Run the notebook's cells in this process: {exercise number: processor seconds}, 0 for the cells before the first.

    Raises whatever a cell raises.
    """
    names, seconds, number = {}, {}, 0
    sys.path.insert(0, str(COURSE))
    try:
        for place, cell in enumerate(solutions.cells):
            if found := HEADING.match(cell.source):
                number = int(found[1])
            if cell.cell_type == "code":
                begin = time.process_time()
                exec(compile(cell.source, f"cell {place} of the notebook", "exec"), names)  # noqa: S102 - our own
                seconds[number] = seconds.get(number, 0) + time.process_time() - begin
    finally:
        sys.path.remove(str(COURSE))
    return seconds


def table(solutions, seconds):
    """The exercises as a Markdown table, with the processor `seconds` that each took here."""
    rows = exercises(solutions)
    points, minutes = (sum(int(row[place]) for row in rows) for place in (3, 5))
    lines = [
        "| | Exercise | Graded as | Points | Difficulty | Minutes | Processor seconds |",
        "|--:|:--|:--|--:|:--|--:|--:|",
        *(f"| {' | '.join(row)} | {seconds[int(row[0])]:.0f} |" for row in rows),
        f"| | Total, with loading | | {points} | | {minutes} | {sum(seconds.values()):.0f} |",
    ]
    return "\n".join([*lines, "", f"Measured on {machine.environment()['cores']} cores ({machine.cpu_name()}).", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; run the reference answers")
    parser.add_argument("--timings", action="store_true", help="run them, and record their times in INSTRUCTOR.md")
    options = parser.parse_args()
    solutions = nbformat.read(SOLUTIONS, as_version=4)
    if not options.check:
        with machine.atomic_file(EXERCISES) as partial:
            nbformat.write(student_version(solutions), partial)
    elif nbformat.read(EXERCISES, as_version=4) != student_version(solutions):
        sys.exit(f"{EXERCISES.name} does not match {SOLUTIONS.name}; run course/generate.py")
    if options.check or options.timings:
        seconds = run(solutions)
        passed = f"the reference answers of {len(exercises(solutions))} exercises pass"
        print(f"{passed}, in {sum(seconds.values()):.0f} processor seconds")
    if options.timings:
        text = TABLE.sub(rf"\g<1>{table(solutions, seconds)}\g<2>", INSTRUCTOR.read_text(encoding="utf-8"))
        INSTRUCTOR.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
