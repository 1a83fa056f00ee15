"""Converts CLIP checkpoints into bundles. Build time only; the runtime never imports it."""
