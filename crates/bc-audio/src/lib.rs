//! From an audio file to a pooled constant-Q magnitude: decode, mix, resample, CQT.
