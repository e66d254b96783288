"""Snapshots as an orchestrator thinks of them: where they live, and how they come back."""

from .files import export_image, import_image
from .volume import TakenSnapshot, VolumeSnapshots

__all__ = ["TakenSnapshot", "VolumeSnapshots", "export_image", "import_image"]
