"""Rules for the evaluation."""

from reidlit.compat.torchreid.result import Found, Override, Remark, idle
from reidlit.compat.torchreid.settings import Settings

PRINTED = 50  # length of the CMC curve and of ranked lists by default


def protocol(settings: Settings) -> Found:
    """What is measured."""
    yield Override("eval.metric", settings["test.dist_metric"])
    yield Override("eval.normalize", settings["test.normalize_feature"])
    yield Override("eval.protocol", "cuhk03" if settings["cuhk03.use_metric_cuhk03"] else "market1501")
    if settings.changed("test.ranks"):
        yield Remark(
            f"test.ranks={settings['test.ranks']}: ranks 1, 5, 10 and 20 are printed; metrics.json has the whole curve."
        )
        yield Override("eval.max_rank", max([PRINTED, *settings["test.ranks"]]))


def while_training(settings: Settings) -> Found:
    """What Torchreid scores while it trains, and what it scores only when it tests."""
    if settings["test.eval_freq"] > 0:
        yield Remark(
            f"test.eval_freq={settings['test.eval_freq']}, test.start_eval={settings['test.start_eval']}: the test images are "
            "scored once, at the end. To watch a training, hold identities out: callbacks=best data.val_fraction=0.1. A "
            "checkpoint is written every epoch."
        )
    else:
        yield from idle(settings, ["test.start_eval"], "as test.eval_freq is -1")
    yield from idle(settings, ["test.rerank"], "unless test.evaluate is True")
    if settings["test.visrank"]:
        yield Remark(
            "test.visrank: Torchreid refuses it while training. Some ranked lists are drawn here after each test."
        )
    else:
        yield from idle(settings, ["test.visrank_topk"], "as test.visrank is False")


def when_testing(settings: Settings) -> Found:
    """Re-ranking and pictures."""
    if settings["test.rerank"]:
        yield Override("eval.postprocess", ["k_reciprocal"])
        yield Override("eval.steps.k_reciprocal.exponent", 4)
        yield Remark(
            "test.rerank: Torchreid squares squared distances once more. Leave eval.steps.k_reciprocal.exponent out to have the paper's."
        )
    if settings["test.visrank"]:
        top_k = settings["test.visrank_topk"]
        yield Override("callbacks.ranked_lists.choose", "all")
        yield Override("callbacks.ranked_lists.each", True)
        yield Override("callbacks.ranked_lists.top_k", top_k)
        yield Override("eval.top_k", max(PRINTED, top_k))
    else:
        yield from idle(settings, ["test.visrank_topk"], "as test.visrank is False")
