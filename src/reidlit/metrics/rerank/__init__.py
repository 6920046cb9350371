"""Re-ranking and query expansion: post-processing of embeddings before the final ranking."""
