"""Recipes: from the assignment's CNN to 94% on CIFAR-10, one file for each thing that is changed.

`cnnlab.recipe_studies` is the place to look first; `recipe` says what a recipe decides.
"""
