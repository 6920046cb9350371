"""Invalid inputs of all post-processing steps."""

import pytest
import torch

from reidlit.metrics import GNNReranking, KReciprocal, NeighbourCentralisation, QueryExpansion, evaluate

VALID = torch.ones(4, 3)
INVALID = {
    "dimensions": (VALID, torch.ones(4, 5), "query has 3 .*gallery has 5"),
    "query 1-D": (torch.ones(3), VALID, r"query.*\(3,\)"),
    "gallery 1-D": (VALID, torch.ones(3), r"gallery.*\(3,\)"),
    "empty": (VALID, torch.ones(0, 3), r"gallery.*\(0, 3\)"),
    "infinite": (torch.full((4, 3), torch.inf), VALID, "query contains 4 of 4"),
    "NaN": (VALID, torch.diag(torch.tensor([1, 1, torch.nan])), "gallery contains 1 of 3 .*row 2"),
}


@pytest.mark.parametrize("case", INVALID)
@pytest.mark.parametrize("step", [QueryExpansion, NeighbourCentralisation, GNNReranking])
def test_invalid_embeddings_raise(step, case):
    query, gallery, message = INVALID[case]
    with pytest.raises(ValueError, match=message):
        step()(query, gallery)


@pytest.mark.parametrize("step", [QueryExpansion, NeighbourCentralisation, GNNReranking, KReciprocal])
def test_evaluate_checks_embeddings_before_any_step(step):
    with pytest.raises(ValueError, match="gallery contains 1 of 3"):
        evaluate(VALID, INVALID["NaN"][1], [0] * 4, [0] * 3, postprocess=[step()])


def test_centroid_protocol_without_any_match_raises():
    with pytest.raises(ValueError, match="of the 4 queries"):
        evaluate(VALID, VALID, [0] * 4, [0] * 4, [1] * 4, [1] * 4, protocol="centroid", verification=True)
