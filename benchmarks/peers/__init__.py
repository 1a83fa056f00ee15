"""Other libraries that embed with CLIP, each in an environment of its own."""
