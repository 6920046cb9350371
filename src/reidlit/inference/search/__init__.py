"""Searchable galleries of embeddings."""
