"""Other precisions of a bundle's graphs: int8, int4 and fp16, each measured when it is made."""
