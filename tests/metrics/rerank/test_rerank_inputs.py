"""What every step of post-processing refuses."""

import pytest
import torch

from reidlit.metrics import GNNReranking, KReciprocal, NeighbourCentralisation, QueryExpansion, evaluate

GOOD = torch.ones(4, 3)
BAD = {
    "dimensions": (GOOD, torch.ones(4, 5), "query has 3 dimensions and gallery has 5"),
    "query 1-D": (torch.ones(3), GOOD, "query must be"),
    "gallery 1-D": (GOOD, torch.ones(3), "gallery must be"),
    "empty": (GOOD, torch.ones(0, 3), "gallery is empty"),
    "infinite": (torch.full((4, 3), torch.inf), GOOD, "query holds 4 of 4 embeddings"),
    "NaN": (GOOD, torch.diag(torch.tensor([1, 1, torch.nan])), "gallery holds 1 of 3 embeddings that are NaN.*row 2"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("step", [QueryExpansion, NeighbourCentralisation, GNNReranking])
def test_bad_embeddings_are_named(step, case):
    query, gallery, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        step()(query, gallery)


@pytest.mark.parametrize("step", [QueryExpansion, NeighbourCentralisation, GNNReranking, KReciprocal])
def test_evaluation_names_them_before_any_step(step):
    with pytest.raises(ValueError, match="gallery holds 1 of 3 embeddings that are NaN"):
        evaluate(GOOD, BAD["NaN"][1], [0] * 4, [0] * 3, postprocess=[step()])


def test_no_block_at_all_is_a_query_without_a_match():
    with pytest.raises(ValueError, match="none of the 4 queries has a match"):
        evaluate(GOOD, GOOD, [0] * 4, [0] * 4, [1] * 4, [1] * 4, protocol="centroid", verification=True)
