"""From a trained model to NAME.onnx, with a proof that both answer alike."""

from resnets.export.exporter import ProofFailed, Proven, export_model, rehearse

__all__ = ["ProofFailed", "Proven", "export_model", "rehearse"]
