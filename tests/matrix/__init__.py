"""Runs commands inside virtual machines with the kernels huatuo supports.

The other tests see one kernel, the host's. Here the same checkout, interpreter and compiled
objects run on Debian's kernels from 5.10 to the newest one, in software emulation, so it works
where there is no KVM. What is proven here is correctness; times under emulation mean nothing.
"""
