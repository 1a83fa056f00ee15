"""Forward passes in float64 NumPy, straight from a checkpoint's tensors; exports are held to them.

Nothing is shared with the towers: no folding, no packing, no pooled last block, their own
reading of names and configs. So a mistake there is not repeated here. Slow, and meant to be
read beside transformers' and open_clip's models, which tests hold them to.
"""
