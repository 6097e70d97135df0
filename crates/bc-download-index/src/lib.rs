//! Stage 1: any data set of the field becomes one verified index.
