"""Trained models: adapters and what belongs to them, versions, lineage, download."""
