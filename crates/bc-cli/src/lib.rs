//! What every stage's command line shares: configuration arguments, error reports, progress bars, Ctrl-C.
