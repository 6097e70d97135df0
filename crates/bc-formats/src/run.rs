//! What a checkpoint says of the input its network was trained on.

use serde::{Deserialize, Serialize};

use crate::features::CqtSettings;

/// Everything that turns audio into the network's input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetworkInput {
    /// The stored features.
    pub cqt: CqtSettings,
    /// Hop frames averaged into one column of the input.
    pub pool: u32,
    /// How a clip is scaled: `none`, or `max` (divided by its maximum + 1e-6).
    pub scale: String,
}
