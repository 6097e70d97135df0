//! The result of an embedding run.

/// How an embedding run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The file existed and is up to date.
    UpToDate,
    /// The file was written, with this many versions.
    Written(usize),
    /// This shard is done; others are not. This many versions are embedded.
    ShardDone(usize),
}
