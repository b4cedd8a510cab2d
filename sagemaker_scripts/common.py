"""Shared by all the scripts: exit codes, one-line errors, asking before a cost, the next command."""

import argparse
import sys

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_BAD_ARGUMENTS = 2
EXIT_DENIED = 3
# What a shell reports for a program ended by Ctrl-C.
EXIT_INTERRUPTED = 130

EXIT_CODES = (
    f"exit codes: {EXIT_DONE} done, {EXIT_FAILED} failed, {EXIT_BAD_ARGUMENTS} bad arguments, "
    f"{EXIT_DENIED} denied by AWS, {EXIT_INTERRUPTED} interrupted"
)


class ScriptError(Exception):
    """Ends a script with one line for its user; `exit_code` tells a calling program what kind it was."""

    exit_code = EXIT_FAILED


class BadArgumentsError(ScriptError):
    """The request makes no sense or is incomplete; nothing was done."""

    exit_code = EXIT_BAD_ARGUMENTS


class DeniedError(ScriptError):
    """AWS knows who is asking and refuses."""

    exit_code = EXIT_DENIED


def parser(description):
    """An ArgumentParser whose --help shows `description` and the exit codes."""
    return argparse.ArgumentParser(
        description=description,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # A script that passes flags on must not mistake --seed for its own --seeds.
        allow_abbrev=False,
    )


def run(main, argv=None):
    """Run `main(argv)` as a program; return its exit code, or that of the error it raised.

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
    """Print the command to run after this one."""
    print(f"next: {command}" + (f"   # {reason}" if reason else ""), flush=True)


def visible_files(path):
    """(folder, its files at any depth, sorted) for a folder `path`, or for a single file; hidden files are left out."""
    folder, found = (path, path.rglob("*")) if path.is_dir() else (path.parent, [path])
    files = sorted(file for file in found if file.is_file())
    return folder, [file for file in files if not any(part.startswith(".") for part in file.relative_to(folder).parts)]


def confirm(question, yes, otherwise="nothing was created"):
    """Return if `yes`, or once the user types y; without a terminal, --yes is required.

    Raises ScriptError, which says `otherwise`, if the user declines, and BadArgumentsError if
    there is nobody to ask.
    """
    if yes:
        return
    if not sys.stdin or not sys.stdin.isatty():
        raise BadArgumentsError(f"{question} Nobody is at the terminal to answer; add --yes to agree")
    if input(f"{question} [y/N] ").strip().lower() not in ("y", "yes"):
        raise ScriptError(f"not confirmed; {otherwise}")
