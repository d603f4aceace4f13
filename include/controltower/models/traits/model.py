"""A trait (gender, age band) from a customer's items: TF-IDF and logistic regression, shrunk to the prior.

What the logistic regression says is pooled with the prior in logarithms: log p = log prior + w (log raw - log prior),
with a weight w by the number of items. w is 0 where there is no item. It is learned from customers who were held out,
each looked at as of when they had few items, too: the w of the least log loss among those that gain over the prior for
sure, by SURELY standard errors of the mean gain. Where none does, w is 0.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Self

import numpy as np
import scipy.sparse as sp
from sklearn.linear_model import LogisticRegression

from controltower.models.base import Model, ModelConfig, State
from controltower.models.recommend.interactions import positions
from controltower.models.traits.items import Histories

LENGTHS = np.array([0, 1, 2, 3, 5, 10, 20])  # items from which on a weight of its own holds
WEIGHTS = np.linspace(0, 1.6, 33)
SURELY = 1.64  # standard errors


class Trait(Model):
    """Probabilities (customers, classes) of a trait. `prior` are the shares of those who told."""

    classes: np.ndarray
    prior: np.ndarray
    weights: np.ndarray  # by LENGTHS
    shares: np.ndarray  # of the years in their age bands (ages.within); empty for other traits

    def fit(self, histories: Histories, label: np.ndarray, classes: tuple[str, ...]) -> Self:
        """Learn from customers whose class is known; `label` are positions in `classes`."""
        self.classes = np.array(classes, dtype=np.str_)
        counted = np.bincount(label, minlength=len(classes)) + 1.0  # nobody is impossible
        self.prior = counted / counted.sum()
        self.weights = np.zeros(len(LENGTHS))
        self.shares = np.zeros(0)
        self._fit(histories, label)
        return self

    def predict(self, histories: Histories) -> np.ndarray:
        """(customers, classes), shrunk."""
        return pooled(self.prior, self.raw(histories), self.weights[length_of(histories.lengths)])

    def tells(self, histories: Histories) -> np.ndarray:
        """By customer, whether anything but the prior is told."""
        return np.asarray(self.weights[length_of(histories.lengths)] > 0)

    @abstractmethod
    def _fit(self, histories: Histories, label: np.ndarray) -> None: ...

    @abstractmethod
    def raw(self, histories: Histories) -> np.ndarray:
        """Log probabilities (customers, classes) before they are shrunk."""

    def _state(self) -> State:
        return {"classes": self.classes, "prior": self.prior, "weights": self.weights, "shares": self.shares}

    def _restore(self, state: State) -> None:
        self.classes, self.prior = state["classes"], state["prior"]
        self.weights, self.shares = state["weights"], state["shares"]


class Prior(Trait):
    """Everybody gets the shares of those who told: the baseline."""

    name: ClassVar[str] = "prior"

    def _fit(self, histories: Histories, label: np.ndarray) -> None: ...

    def raw(self, histories: Histories) -> np.ndarray:
        return np.tile(np.log(self.prior), (len(histories.customer_ids), 1))


class ItemsLogistic(Trait):
    """Logistic regression on TF-IDF of the words of a customer's items."""

    name: ClassVar[str] = "items_logistic"

    class Config(ModelConfig):
        c: float = 1.0  # inverse of the regularisation
        fewest: int = 5  # customers who have a word; rarer ones may be anybody's own

    config: Config
    vocabulary: np.ndarray
    idf: np.ndarray
    coefficients: np.ndarray  # (classes, 1 + vocabulary), the intercept first; NaN rows: nobody of that class

    def _fit(self, histories: Histories, label: np.ndarray) -> None:
        counts = histories.counts
        having = np.asarray((counts > 0).sum(axis=0)).ravel()
        self.vocabulary = histories.vocabulary[having >= self.config.fewest]
        self.idf = 1 + np.log((1 + len(label)) / (1 + having[having >= self.config.fewest]))
        there = np.unique(label)
        self.coefficients = np.full((len(self.classes), 1 + len(self.vocabulary)), np.nan, dtype=np.float32)
        if len(there) < 2 or not len(self.vocabulary):
            return
        learned = LogisticRegression(C=self.config.c, max_iter=200).fit(self._tf_idf(histories), label)
        told = np.c_[learned.intercept_, learned.coef_]
        self.coefficients[there] = told if len(there) > 2 else np.r_[np.zeros_like(told), told]

    def raw(self, histories: Histories) -> np.ndarray:
        known = ~np.isnan(self.coefficients[:, 0])
        logs = np.tile(np.log(self.prior), (len(histories.customer_ids), 1))
        if known.any():
            z = self._tf_idf(histories) @ self.coefficients[known, 1:].T + self.coefficients[known, 0]
            # classes that nobody had keep the little that the prior gives them
            logs[:, known] = z - _log_sum(z) + np.log(self.prior[known].sum())
        return logs

    def _tf_idf(self, histories: Histories) -> sp.csr_matrix:
        at = positions(self.vocabulary, histories.vocabulary)
        pick = sp.csr_matrix(
            (np.ones((at >= 0).sum()), (np.flatnonzero(at >= 0), at[at >= 0])), (len(at), len(self.vocabulary))
        )
        found = (histories.counts @ pick).tocsr()
        found.data = (1 + np.log(found.data)) * self.idf[found.indices]
        norm = np.sqrt(np.asarray(found.multiply(found).sum(axis=1)).ravel())
        return sp.diags(1 / np.maximum(norm, 1e-9)) @ found

    def _state(self) -> State:
        learned = {"vocabulary": self.vocabulary, "idf": self.idf, "coefficients": self.coefficients}
        return super()._state() | learned

    def _restore(self, state: State) -> None:
        super()._restore(state)
        self.vocabulary, self.idf, self.coefficients = state["vocabulary"], state["idf"], state["coefficients"]


KINDS: tuple[type[Trait], ...] = (ItemsLogistic, Prior)


def length_of(lengths: np.ndarray) -> np.ndarray:
    """The positions in LENGTHS that numbers of items belong to."""
    return np.searchsorted(LENGTHS, lengths, side="right") - 1


def pooled(prior: np.ndarray, raw: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Probabilities (n, classes) from a prior (of all or by row), log probabilities `raw`, and a weight by row."""
    logs = np.log(prior) + weight[:, None] * (raw - np.log(prior))
    return np.asarray(np.exp(logs - _log_sum(logs)))


def best(prior: np.ndarray, raw: np.ndarray, label: np.ndarray) -> float:
    """The weight that gains most log loss over the prior, of rows (n, classes) that weren't learned from, among those
    that gain for sure."""
    rows = np.arange(len(label))
    found, most = 0.0, 0.0
    for weight in WEIGHTS[1:] if len(rows) > 1 else ():
        p = pooled(prior, raw, np.full(len(rows), weight))[rows, label]
        gain = np.log(p) - np.log(prior[rows, label])
        if gain.mean() > max(most, SURELY * gain.std(ddof=1) / np.sqrt(len(rows))):
            found, most = float(weight), float(gain.mean())
    return found


def _log_sum(z: np.ndarray) -> np.ndarray:
    top = z.max(axis=1, keepdims=True)
    return np.asarray(top + np.log(np.exp(z - top).sum(axis=1, keepdims=True)))
