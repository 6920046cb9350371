"""Support of the timm model families: training, embedding and export of one network per family, built with `model=timm`.

    python benchmarks/families.py [--output benchmarks/results/families.json] [NAME ...]

For each network, the script runs images of 256 x 128 forward and backward and reports whether every parameter receives a
gradient, the size of the embedding, the size of the feature map with last_stride=1, and the difference between ONNX Runtime and
the model, relative to the largest value of the embedding. If an export fails, it reports the reason.
"""

import argparse
import datetime
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import onnxruntime
import torch

from evaluation import machine, versions
from reidlit import build_model
from reidlit.export.onnx import export_onnx
from reidlit.models.backbones.timm_network import TimmNetwork

SIZE = (256, 128)
FAMILIES = {
    "ResNet": "resnet18",
    "ResNet-D": "resnet26d",
    "ResNeXt": "resnext50_32x4d",
    "SE-ResNet": "legacy_seresnet18",
    "DenseNet": "densenet121",
    "EfficientNet": "efficientnet_b0",
    "ConvNeXt": "convnext_atto",
    "RegNet": "regnety_002",
    "MobileNetV3": "mobilenetv3_small_050",
    "MobileNetV4": "mobilenetv4_conv_small_035",
    "RepViT": "repvit_m0_9",
    "FastViT": "fastvit_t8",
    "GhostNet": "ghostnet_050",
    "ViT": "vit_tiny_patch16_224",
    "DeiT": "deit_tiny_distilled_patch16_224",
    "DINOv2": "vit_small_patch14_dinov2",
    "DINOv3": "vit_small_patch16_dinov3",
    "CLIP": "vit_base_patch32_clip_224",
    "EVA-02": "eva02_tiny_patch14_224",
    "SigLIP": "vit_base_patch32_siglip_256",
    "Swin": "swin_tiny_patch4_window7_224",
    "Swin V2": "swinv2_tiny_window8_256",
    "MaxViT": "maxvit_rmlp_pico_rw_256",
    "PVT v2": "pvt_v2_b0",
    "Hiera": "hiera_tiny_224",
    "TinyViT": "tiny_vit_5m_224",
    "VOLO": "volo_d1_224",
}


def main() -> None:
    """Test the families and write the results after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", help=f"families, from {', '.join(FAMILIES)}; default: all")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "families.json")
    arguments = parser.parse_args()
    results: dict[str, Any] = {
        "what": f"networks of timm with images of {SIZE[0]} x {SIZE[1]}, random weights, fp32",
        "machine": machine(),
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "versions": versions() | {"onnxruntime": onnxruntime.__version__},
        "families": {},
    }
    warnings.simplefilter("ignore")  # timm and the exporter warn about their own code
    for family in arguments.names or FAMILIES:
        results["families"][family] = result = check(FAMILIES[family])
        print(f"{family:14} {result}", flush=True)
        arguments.output.write_text(json.dumps(results, indent=2) + "\n")


def check(name: str) -> dict[str, Any]:
    """Return the results of one network."""
    torch.manual_seed(0)
    model = build_model(f"timm/{name}", num_classes=3)
    image = torch.randint(0, 256, (2, 3, *SIZE), dtype=torch.uint8)
    output = model.train()(image)
    (output.logits[0].square().sum() + output.features[0].square().sum()).backward()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return {
        "network": name,
        "embedding_size": output.embedding.shape[1],
        "gradient_reaches_all": all(p.grad is not None and bool(p.grad.isfinite().all()) for p in trained),
        "map": list(model.backbone(torch.zeros(1, 3, *SIZE)).shape[2:]),
        "last_stride_1": last_stride_one(name),
        "onnx": export_difference(model.eval(), image),
    }


def last_stride_one(name: str) -> Any:
    """Return the size of the feature map with last_stride=1, or the reason why that is not supported."""
    try:
        network = TimmNetwork(name, image_size=SIZE, last_stride=1)
    except ValueError as error:
        return str(error)
    return list(network(torch.zeros(1, 3, *SIZE)).shape[2:])


def export_difference(model: Any, image: torch.Tensor) -> dict[str, Any]:
    """Return the largest difference of the embeddings of the ONNX file, or the reason why the export failed."""
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = Path(folder) / "model.onnx"
        try:
            export_onnx(model, path, SIZE)
        except ValueError as error:
            return {"works": False, "why": str(error)}
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        embedding = session.run(None, {"image": image[:1].numpy()})[0]  # a batch size that differs from the traced one
        expected = model.embed(image[:1]).numpy()
    difference = abs(embedding - expected).max() / abs(expected).max()
    return {"works": bool(difference < 1e-4), "largest_relative_difference": float(f"{difference:.1e}")}


if __name__ == "__main__":
    main()
