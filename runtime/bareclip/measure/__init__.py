"""What a bundle can do: speed, fidelity of its precisions, accuracy."""
