//! Stage 2: the index's audio becomes pooled CQT features in Parquet.
