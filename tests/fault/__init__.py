"""Proof by fault: the real dispatcher, killed and lied to in every way there is, and then compared with the sandbox.

`python -m fault` (`make fault`) runs seeded schedules, a thousand by default.
"""
