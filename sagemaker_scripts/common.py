"""What all the scripts share: exit codes, one-line errors, the question before a cost, the next command."""

import argparse
import sys

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_BAD_ARGUMENTS = 2
EXIT_DENIED = 3
# What a shell reports of a program that Ctrl-C ended.
EXIT_INTERRUPTED = 130

EXIT_CODES = (
    f"exit codes: {EXIT_DONE} done, {EXIT_FAILED} failed, {EXIT_BAD_ARGUMENTS} bad arguments, "
    f"{EXIT_DENIED} denied by AWS, {EXIT_INTERRUPTED} interrupted"
)


class ScriptError(Exception):
    """Ends a script with one line for its user; `exit_code` tells a calling program what kind it was."""

    exit_code = EXIT_FAILED


class BadArgumentsError(ScriptError):
    """What was asked makes no sense, or lacks something; nothing was done."""

    exit_code = EXIT_BAD_ARGUMENTS


class DeniedError(ScriptError):
    """AWS knows who is asking and refuses."""

    exit_code = EXIT_DENIED


def parser(description):
    """An ArgumentParser whose --help is the script's docstring and its exit codes."""
    return argparse.ArgumentParser(
        description=description,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # A script that passes flags on must not take --seed for its own --seeds.
        allow_abbrev=False,
    )


def run(main, argv=None):
    """Run `main(argv)` as a program: its return value, or that of the error it raised, is the exit code.

    `main` returns an exit code, or None for done. A ScriptError becomes one line on standard error.
    """
    try:
        return main(argv) or EXIT_DONE
    except ScriptError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def print_next(command, reason=""):
    """Print the command that a user would run after this one."""
    print(f"next: {command}" + (f"   # {reason}" if reason else ""), flush=True)


def visible_files(path):
    """(folder, files in it at any depth, sorted) of a folder `path`, or of a single file; hidden ones are left out."""
    folder, found = (path, path.rglob("*")) if path.is_dir() else (path.parent, [path])
    files = sorted(file for file in found if file.is_file())
    return folder, [file for file in files if not any(part.startswith(".") for part in file.relative_to(folder).parts)]


def confirm(question, yes, otherwise="nothing was made"):
    """Return if `yes`, or if the user types y; a program without a terminal has to say --yes.

    Raises ScriptError that says `otherwise` where the user does not agree, and BadArgumentsError
    where nobody is there to be asked.
    """
    if yes:
        return
    if not sys.stdin or not sys.stdin.isatty():
        raise BadArgumentsError(f"{question} Nobody is at the terminal to answer; add --yes to agree")
    if input(f"{question} [y/N] ").strip().lower() not in ("y", "yes"):
        raise ScriptError(f"not agreed; {otherwise}")
