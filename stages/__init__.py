"""The stages of dvc.yaml: each parses its arguments, loads, calls `robacc`, and saves."""
