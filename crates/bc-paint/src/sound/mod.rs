//! A performance as the constant-Q transform would show it.
//!
//! **In**: parts of notes in seconds ([`crate::performance::Performance`]) and a stream of random numbers. **Out**:
//! magnitudes, bins x columns. [`grid`] knows the transform (at which bin a tone is, how wide and how high its
//! lobe is), [`timbre`] draws instruments, [`roll`] turns notes into loudness over time, [`percussion`] draws
//! drums, and [`room`] models the rest of a recording: balance, reverberation, equaliser, noise.

pub mod grid;
mod percussion;
mod picture;
mod roll;
mod room;
mod timbre;

use crate::dice::Dice;
use crate::performance::{Performance, Role};

use grid::Grid;
pub use picture::Picture;
use timbre::Timbre;

/// Paints a performance; `dice` gives the stream of a purpose.
pub fn paint(grid: &Grid, performance: &Performance, columns: usize, dice: impl Fn(&str) -> Dice) -> Picture {
    let [mut lead, mut rest] = [(); 2].map(|()| Picture::zeros(grid.bins, columns));
    let mut tuning = dice("tuning");
    let mut sounds = dice("sound");
    for part in &performance.parts {
        let out = tuning.normal(0.05) + performance.tuning;
        let timbre = Timbre::draw(grid, part.role, out, &mut sounds);
        let onto = if part.role == Role::Melody { &mut lead } else { &mut rest };
        timbre.paint(grid, &part.tones, part.gain, onto, &mut sounds);
    }
    let drums = percussion::paint(grid, &performance.hits, columns, &mut dice("percussion"));
    let mut power = room::balance(grid, lead, rest, drums, &mut dice("balance"));
    room::finish(grid, &mut power, &mut dice("room"));
    power
}
