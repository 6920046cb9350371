"""Selection of test parameters for the fast suite."""

import pytest

FAST_MODELS = {  # a small model of each family in conf/model
    *("densenet121", "hacnn", "inceptionv4", "mlfn", "mobilenetv2_x1_0", "nasnsetmobile", "osnet_ain_search"),
    *("osnet_ain_x0_25", "osnet_ibn_x1_0", "osnet_x0_25", "pcb_p6", "resnet18", "resnet50_ibn_a", "resnet50mid"),
    *("se_resnet50", "shufflenet", "shufflenet_v2_x0_5", "squeezenet1_0_fc512", "timm", "transreid", "xception"),
}


def mostly_slow(names, fast):
    """Return pytest parameters, all marked `slow` except the `fast` ones."""
    assert set(fast) <= set(names), f"unknown parameters: {set(fast) - set(names)}"
    return [pytest.param(name, marks=() if name in fast else pytest.mark.slow) for name in names]
