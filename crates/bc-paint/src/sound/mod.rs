//! Paints a performance as the constant-Q transform would show it.
//!
//! **In**: parts of notes in seconds ([`crate::performance::Performance`]) and random streams. **Out**:
//! magnitudes, bins x columns. [`grid`] models the transform (the bin of a tone, and width and height of its lobe), [`timbre`]
//! draws random instruments, [`roll`] converts notes to loudness over time, [`percussion`] paints drums, and [`mixing`] models
//! the recording: balance, reverberation, equaliser, noise.

pub mod grid;
mod mixing;
mod percussion;
mod picture;
mod roll;
mod timbre;

use crate::performance::{Performance, Role};
use crate::random_stream::RandomStream;

use grid::Grid;
pub use picture::Picture;
use timbre::Timbre;

/// Paints a performance; `random` returns the random stream of a purpose.
pub fn paint(
    grid: &Grid,
    performance: &Performance,
    columns: usize,
    random: impl Fn(&str) -> RandomStream,
) -> Picture {
    let [mut lead, mut rest] = [(); 2].map(|()| Picture::zeros(grid.bins, columns));
    let mut tuning = random("tuning");
    let mut sounds = random("sound");
    for part in &performance.parts {
        let out = tuning.normal(0.05) + performance.tuning;
        let timbre = Timbre::draw(grid, part.role, out, &mut sounds);
        let onto = if part.role == Role::Melody { &mut lead } else { &mut rest };
        timbre.paint(grid, &part.tones, part.gain, onto, &mut sounds);
    }
    let drums = percussion::paint(grid, &performance.hits, columns, &mut random("percussion"));
    let mut power = mixing::balance(grid, lead, rest, drums, &mut random("balance"));
    mixing::finish(grid, &mut power, &mut random("room"));
    power
}
