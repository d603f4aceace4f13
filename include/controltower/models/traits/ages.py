"""Ages in bands of five years, and years within them."""

from __future__ import annotations

import numpy as np

from controltower.profiles.told import OLDEST, YOUNGEST

EDGES = np.arange(20, 70, 5)  # a band begins at each
BANDS = ("under_20", *(f"{edge}_{edge + 4}" for edge in EDGES[:-1].tolist()), "65_up")
YEARS = np.arange(YOUNGEST, OLDEST + 1)
_SMOOTH = np.array([1.0, 2.0, 3.0, 2.0, 1.0]) / 9  # over neighbouring years
_MIDDLE = 0.8  # the share of the probability that `summary` says a range of


def band_of(years: np.ndarray) -> np.ndarray:
    """The positions in BANDS of ages."""
    return np.searchsorted(EDGES, years, side="right")


def within(told: np.ndarray) -> np.ndarray:
    """(len(YEARS),) the share of each year in its band, of the ages that customers told, smoothed."""
    counted = np.bincount(told - YOUNGEST, minlength=len(YEARS)).astype(float)
    shares = np.convolve(np.pad(counted, 2, mode="edge"), _SMOOTH, mode="valid") + 1 / len(YEARS)
    band = band_of(YEARS)
    return np.asarray(shares / np.bincount(band, shares)[band])


def by_year(bands: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Probabilities (n, YEARS) from those of the bands (n, BANDS) and what `within` gave."""
    return np.asarray(bands[:, band_of(YEARS)] * shares)


def summary(years: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The median age of each row of probabilities by year, and from and to which the middle 80 % reach."""
    below = np.cumsum(years, axis=1)
    tail = (1 - _MIDDLE) / 2
    middle, low, high = (YEARS[np.argmax(below >= share - 1e-12, axis=1)] for share in (0.5, tail, 1 - tail))
    return middle, low, high
