//! Stage 4: embeddings, metrics, search and a report.
