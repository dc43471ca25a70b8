"""Versus: image classifiers compared under one controlled protocol."""
