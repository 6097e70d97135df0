//! The result of an embedding run.

/// How an embedding run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The file existed and is up to date.
    UpToDate,
    /// The file was written; holds its number of versions.
    Written(usize),
    /// This shard is done, and others are not; holds the number of versions that are embedded.
    ShardDone(usize),
}
