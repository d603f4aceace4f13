"""Proof by fault: the real dispatcher, killed and lied to in every way there is, and then compared with the sandbox.

`python -m fault` (`make fault`) runs a thousand seeded schedules; test_fault.py runs a few. See docs/ledger.md.
"""
