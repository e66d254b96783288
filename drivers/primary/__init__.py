"""Primary storage: managed arrays and pools of files."""
