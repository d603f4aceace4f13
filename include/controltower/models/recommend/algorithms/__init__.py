"""The algorithms that are tried, one a file, by name; the cheap ones first, as a budget may leave out the last."""

from controltower.models.recommend.algorithms.als import Als
from controltower.models.recommend.algorithms.bpr import Bpr
from controltower.models.recommend.algorithms.complements import Complements
from controltower.models.recommend.algorithms.content import Content
from controltower.models.recommend.algorithms.ease import Ease
from controltower.models.recommend.algorithms.item_knn import Bm25, ItemKnn
from controltower.models.recommend.algorithms.markov import Markov
from controltower.models.recommend.algorithms.next_item import NextItem
from controltower.models.recommend.algorithms.own_history import OwnCount, OwnHistory
from controltower.models.recommend.algorithms.popularity import Popularity
from controltower.models.recommend.algorithms.replenishment import Replenishment
from controltower.models.recommend.algorithms.sasrec import Sasrec
from controltower.models.recommend.algorithms.segment_popularity import SegmentPopularity
from controltower.models.recommend.algorithms.session_knn import SessionKnn
from controltower.models.recommend.algorithms.substitutes import Substitutes
from controltower.models.recommend.algorithms.tifu_knn import TifuKnn
from controltower.models.recommend.algorithms.user_knn import UserKnn
from controltower.models.recommend.base import Scorer

MEMBERS: dict[str, type[Scorer]] = {
    m.name: m
    for m in (
        OwnHistory, OwnCount, Replenishment, Popularity, SegmentPopularity, NextItem, Markov, ItemKnn, Bm25, SessionKnn,
        UserKnn, TifuKnn, Content, Als, Bpr, Ease, Sasrec,
    )
}  # fmt: skip
# and those that are asked of products, not of customers
ALL: dict[str, type[Scorer]] = MEMBERS | {m.name: m for m in (Complements, Substitutes)}
