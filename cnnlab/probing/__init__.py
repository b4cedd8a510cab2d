"""What a probe measures on a trained network, or on a table: one question a module.

`cnnlab.probes` is the front: it names the probes, runs them over seeds and reads them back.
"""
