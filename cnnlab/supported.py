"""Whether the lab can be installed here; `python cnnlab/supported.py` says in one line why not, before anything is.

Run as a file by whichever Python there is, it imports nothing that is not in every one since 3.6.
"""

import platform
import re
import struct
import sys
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
_OTHERS = "name another: make PYTHON=python3.12 (pyenv, conda and uv install one beside what the system has)"


def trouble(version, system, machine, wide):
    """Why the lab cannot be installed on a Python of `version` and this machine, and what to do; "" where it can.

    `version`: (major, minor, micro); `system`: as sys.platform; `machine`: as platform.machine();
    `wide`: whether addresses have 64 bits.
    """
    if system in ("win32", "cygwin", "msys"):
        return "Windows itself is not supported: install WSL (wsl --install), and run this again in its terminal"
    if system == "darwin" and machine == "x86_64":
        return "Macs with an Intel processor are not supported, as TensorFlow is not: use a Linux machine or container"
    if not wide:
        return "Python is one of 32 bits, which TensorFlow does not support: name one of 64 bits, make PYTHON=..."
    lowest, ceiling = bounds()
    if not lowest <= tuple(version) < ceiling:
        asked = "Python {} to {}.{} is needed, and this is {}: {}"
        said = ".".join(map(str, lowest)), ceiling[0], ceiling[1] - 1, ".".join(map(str, version)), _OTHERS
        return asked.format(*said)
    return ""


def bounds():
    """(the lowest version that is promised, the lowest that is too high): tuples of what pyproject.toml says."""
    said = re.search(r'requires-python = ">=([\d.]+),<([\d.]+)"', PYPROJECT.read_text(encoding="utf-8"))
    return tuple(tuple(map(int, version.split("."))) for version in said.groups())


if __name__ == "__main__":
    here = trouble(sys.version_info[:3], sys.platform, platform.machine(), struct.calcsize("P") == 8)
    sys.exit(here or 0)
