"""The architectures we author, as onnxscript modules, and the weights they are made of."""
