"""What results allow one to say: frames in, sentences and tables out; how a number is written, once.

`cnnlab.findings` is the front that notebooks and the report import from.
"""
