"""What all the scripts share: exit codes, one-line errors, the question before a cost, the next command."""

import argparse
import dataclasses
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


@dataclasses.dataclass(kw_only=True)
class Outcome:
    """What became of a run in an account.

    `rehearsed`: whether it was done on this machine instead; `denied`: the `aws.Problem` of the
    call that the account may not make; `left`: [(kind, name), ...] that could not be deleted.
    """

    rehearsed: bool = False
    denied: object = None
    left: list = dataclasses.field(default_factory=list)

    @property
    def exit_code(self):
        if self.left:
            return EXIT_FAILED
        return EXIT_DENIED if self.denied else EXIT_DONE


def parser(description):
    """An ArgumentParser whose --help is the script's docstring and its exit codes."""
    return argparse.ArgumentParser(
        description=description,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # A script that passes flags on must not take --seed for its own --seeds.
        allow_abbrev=False,
    )


def add_account_flags(parser, role=True):
    """Add --region, --profile, --bucket and, where something works under it, --role, --kms-key and a VPC's flags."""
    parser.add_argument("--region", help="default: the profile's; us-east-1 in a lab")
    parser.add_argument("--profile", help="of ~/.aws/config")
    parser.add_argument("--bucket", help="default: sagemaker-REGION-ACCOUNT")
    if role:
        text = "name or ARN of SageMaker's role (default: LabRole in a lab, or the caller's)"
        parser.add_argument("--role", help=text)
        parser.add_argument("--kms-key", metavar="KEY", help="ID, ARN or alias of the key that encrypts what is stored")
        parser.add_argument(
            "--subnets", type=_words, default=(), metavar="A,B", help="of the VPC that containers work in"
        )
        parser.add_argument("--security-groups", type=_words, default=(), metavar="A,B", help="of that VPC")


def _words(text):
    return tuple(word.strip() for word in text.split(",") if word.strip())


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


def confirm(question, yes):
    """True if `yes`, or if the user types y; a program without a terminal has to say --yes.

    Raises BadArgumentsError where nobody is there to be asked.
    """
    if yes:
        return True
    if not sys.stdin or not sys.stdin.isatty():
        raise BadArgumentsError(f"{question} Nobody is at the terminal to answer; add --yes to agree")
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
