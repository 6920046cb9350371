"""Networks from an image to a feature map, one architecture a file."""
