"""CMC with one gallery image an identity, as CUHK03's protocol has it."""

import numpy as np

from reidlit.metrics._ranking.tiles import Answered
from reidlit.metrics._ranking.types import Integers


class SingleShot:
    """Collects the ranks of the match when one random image of each identity stays in the gallery, over several draws.

    Each draw puts the gallery in a random order and keeps the first image of each identity, for a query's own identity
    the first that is not junk: so every query meets the same gallery, whatever the other queries are. Draws come from
    a generator of their own.

    Source: Wei Li et al., "DeepReID: Deep Filter Pairing Neural Network for Person Re-Identification", CVPR 2014.
    """

    def __init__(self, num_queries: int, g_pids: Integers, repeats: int, seed: int) -> None:
        """Draw the galleries.

        Args:
            num_queries: Q.
            g_pids: (G,) identities, those of distractors too.
            repeats: How many draws.
            seed: Of the draws.
        """
        generator = np.random.default_rng(seed)
        orders = [generator.permutation(len(g_pids)) for _ in range(repeats)]
        self.g_pids = g_pids
        self.turns = [np.argsort(order) for order in orders]  # when each entry comes
        self.kept = [order[np.unique(g_pids[order], return_index=True)[1]] for order in orders]
        self.ranks = np.zeros((num_queries, repeats), np.int64)

    def add(self, part: Answered) -> None:
        """Add a block."""
        rows, block, relevance, _ = part
        valid = np.flatnonzero(np.diff(relevance.match_offsets))
        for repeat, (turn, kept) in enumerate(zip(self.turns, self.kept, strict=True)):
            # Matches by query, then by turn: the first of each query is the one that stays.
            order = np.lexsort([turn[relevance.matches], relevance.match_rows])
            match = relevance.matches[order[relevance.match_offsets[valid]]]
            distance = block.at(valid, match)[:, None]
            others = block.columns(kept)[valid]
            closer = (others < distance) | ((others == distance) & (kept < match[:, None]))
            closer &= self.g_pids[kept] != self.g_pids[match][:, None]
            self.ranks[rows[valid], repeat] = 1 + closer.sum(axis=1)

    def result(self) -> Integers:
        """(Q, repeats) ranks of each query's match, from 1; 0 without a match."""
        return self.ranks
