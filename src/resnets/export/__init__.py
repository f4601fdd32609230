"""From a trained model to NAME.onnx, verified to equal it."""

from resnets.export.exporter import ProofFailed, Proven, check_target, export_model, rehearse

__all__ = ["ProofFailed", "Proven", "check_target", "export_model", "rehearse"]
