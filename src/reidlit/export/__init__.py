"""Export to other runtimes: ONNX, OpenVINO, TorchScript and more, each compared with the model."""
