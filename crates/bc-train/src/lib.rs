//! Stage 3: features become a trained network.
