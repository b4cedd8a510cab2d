"""A model as an archive and behind a local server: the parts of package_model.py and serve_local.py."""
