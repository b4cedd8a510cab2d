"""What the command lines of the lab make of the text of an argument."""

import argparse


def whole_number(least):
    """For argparse's `type`: a function from text to a whole number (int) of `least` or more.

    For any other text argparse prints the command's usage and the one line of the error, and exits with 2.
    """

    def number(text):
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least}")
        return int(text)

    return number
