"""Whether the lab can be installed here: `python cnnlab/supported.py` says in one line why not, before any install.

It is run as a file by whatever Python there is, so it imports only what every version since 3.6 has.
"""

import platform
import re
import struct
import sys
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
_OTHERS = "name another: make PYTHON=python3.12 (pyenv, conda or uv can install one beside the system's)"


def trouble(version, system, machine, wide):
    """Why the lab cannot be installed with this Python on this machine, and what to do about it; "" if it can.

    `version`: (major, minor, micro); `system`: as sys.platform; `machine`: as platform.machine();
    `wide`: whether this is a 64-bit Python.
    """
    if system in ("win32", "cygwin", "msys"):
        return "Windows itself is not supported: install WSL (wsl --install), and run this again in its terminal"
    if system == "darwin" and machine == "x86_64":
        return "Macs with an Intel processor are not supported by TensorFlow: use a Linux machine or container"
    if not wide:
        return "this is a 32-bit Python, which TensorFlow does not support: name a 64-bit one, make PYTHON=..."
    lowest, ceiling = bounds()
    if not lowest <= tuple(version) < ceiling:
        asked = "Python {} to {}.{} is needed, but this is {}: {}"
        said = ".".join(map(str, lowest)), ceiling[0], ceiling[1] - 1, ".".join(map(str, version)), _OTHERS
        return asked.format(*said)
    return ""


def bounds():
    """(the lowest supported version, the lowest that is too new), as tuples, from pyproject.toml."""
    said = re.search(r'requires-python = ">=([\d.]+),<([\d.]+)"', PYPROJECT.read_text(encoding="utf-8"))
    return tuple(tuple(map(int, version.split("."))) for version in said.groups())


if __name__ == "__main__":
    here = trouble(sys.version_info[:3], sys.platform, platform.machine(), struct.calcsize("P") == 8)
    sys.exit(here or 0)
