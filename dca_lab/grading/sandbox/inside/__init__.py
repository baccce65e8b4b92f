"""What runs inside the sandbox: copied there, with `values.py`, as the only files of the package that exist there.

These files import the standard library, torch, numpy and `dca_lab.grading.values`, and nothing else of the package.
"""
