"""Profiles in the embedded store: dictionary, samples in blocks, merging."""
