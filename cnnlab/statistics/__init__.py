"""How sure a number is: intervals, tests of differences, calibration. Arrays in, numbers out.

`cnnlab.evaluation` is the front that the rest of the lab imports from.
"""
