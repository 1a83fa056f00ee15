"""ONNX Runtime: sessions, devices, threads, the cache of graphs."""
