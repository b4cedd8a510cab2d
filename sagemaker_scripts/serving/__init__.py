"""A model as an archive, and behind a local server: what package_model.py and serve_local.py are made of."""
