"""Aggregation of LoRA: what the two factors of a change are, and rules that know it. No models, no rounds."""
