//! Exact search and the field's retrieval metrics over embeddings.
