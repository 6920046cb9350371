"""From a trained model to answers: faster forms of it, and files that other programs load."""
