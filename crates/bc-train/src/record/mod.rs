//! What a run tells about itself while it goes on.

mod events;
mod tfrecord;

pub use events::EventWriter;
