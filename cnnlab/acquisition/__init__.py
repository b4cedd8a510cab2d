"""How the bytes of a data set are found on disk or fetched, read, verified and kept.

`cnnlab.sources` decides what is tried, and in which order; nothing here does.
"""
