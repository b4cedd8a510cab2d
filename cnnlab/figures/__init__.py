"""One function a figure: data in, a matplotlib Figure out; nothing here computes a result.

`cnnlab.plotting` is the front that the rest of the lab imports from.
"""
