//! All stored features in one block of 16-bit floats: in memory, or in a file mapped
//! into it where they would not fit.

use anyhow::{Result, ensure};
use half::f16;

use super::TrackView;
use super::mapped_file::{self, Content, MappedFile, MappedPath};

/// One track of a store.
#[derive(Debug, Clone, PartialEq)]
pub struct Track {
    /// Id in the index.
    pub version_id: String,
    /// Clique in the index.
    pub clique_id: String,
    /// Stored columns.
    pub frames: usize,
}

/// Tracks with their magnitudes.
pub struct Store {
    bins: usize,
    tracks: Vec<Track>,
    /// Where each track begins in `block`, in values.
    offsets: Vec<usize>,
    /// Whether all values of each track are finite.
    finite: Vec<bool>,
    block: Block,
}

/// Stores the values of one track (bins x frames, row-major), given its position among the tracks.
pub type PutTrack<'a> = dyn FnMut(usize, &[f16]) -> Result<()> + 'a;

/// The magnitudes of all tracks.
enum Block {
    Memory(Vec<f16>),
    Mapped(MappedFile),
}

impl Store {
    /// Builds a store of `tracks`, whose magnitudes `fill` supplies: it calls its argument with the position and the
    /// values of each track. With `file`, the block is that file, mapped into memory; a whole file of an earlier start
    /// is used again.
    pub fn build(
        bins: usize,
        tracks: Vec<Track>,
        file: Option<&MappedPath>,
        fill: impl FnOnce(&mut PutTrack<'_>) -> Result<()>,
    ) -> Result<Self> {
        let mut offsets = Vec::with_capacity(tracks.len());
        let mut total = 0;
        for track in &tracks {
            offsets.push(total);
            total += bins * track.frames;
        }
        let (block, finite) = match file {
            None => {
                let mut values = vec![f16::ZERO; total];
                let finite = fill_block(&tracks, &offsets, bins, fill, |offset, of_track| {
                    values[offset..offset + of_track.len()].copy_from_slice(of_track);
                    Ok(())
                })?;
                (Block::Memory(values), finite)
            }
            Some(place) => {
                let content = Content { values: total, tracks: tracks.len() };
                let mapped = mapped_file::open_or_write(place, content, |put| {
                    fill_block(&tracks, &offsets, bins, fill, put)
                })?;
                let finite = mapped.finite();
                (Block::Mapped(mapped), finite)
            }
        };
        Ok(Self { bins, tracks, offsets, finite, block })
    }

    /// Returns the number of bins.
    pub fn bins(&self) -> usize {
        self.bins
    }

    /// Returns all tracks.
    pub fn tracks(&self) -> &[Track] {
        &self.tracks
    }

    /// Returns the size of the block in bytes.
    pub fn bytes(&self) -> usize {
        2 * self.values().len()
    }

    /// Returns the features of one track.
    pub fn view(&self, track: usize) -> TrackView<'_> {
        let frames = self.tracks[track].frames;
        let from = self.offsets[track];
        TrackView { bins: self.bins, frames, values: &self.values()[from..from + self.bins * frames] }
    }

    /// Returns whether all values of a track are finite.
    pub fn is_finite(&self, track: usize) -> bool {
        self.finite[track]
    }

    fn values(&self) -> &[f16] {
        match &self.block {
            Block::Memory(values) => values,
            Block::Mapped(file) => file.values(),
        }
    }
}

/// Passes the values of each track that `fill` supplies to `write`, with their offset in the block. Returns whether the
/// values of each track are finite.
fn fill_block(
    tracks: &[Track],
    offsets: &[usize],
    bins: usize,
    fill: impl FnOnce(&mut PutTrack<'_>) -> Result<()>,
    mut write: impl FnMut(usize, &[f16]) -> Result<()>,
) -> Result<Vec<bool>> {
    let mut finite = vec![true; tracks.len()];
    fill(&mut |track, values| {
        let size = bins * tracks[track].frames;
        ensure!(
            values.len() == size,
            "version {}: {} values instead of {size}",
            tracks[track].version_id,
            values.len()
        );
        finite[track] = values.iter().all(|value| value.is_finite());
        write(offsets[track], values)
    })?;
    Ok(finite)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(file: Option<&MappedPath>, last: f16) -> Store {
        let track = |id: &str, frames| Track { version_id: id.into(), clique_id: "c".into(), frames };
        Store::build(2, vec![track("a", 2), track("b", 1)], file, |put| {
            put(1, &[f16::from_f32(5.0), last])?;
            put(0, &[1.0, 2.0, 3.0, 4.0].map(f16::from_f32))
        })
        .unwrap()
    }

    fn place(folder: &tempfile::TempDir) -> MappedPath {
        MappedPath { path: folder.path().join("features.f16"), is_checked: false }
    }

    #[test]
    fn stores_in_memory_and_in_a_file_hold_the_same_values() {
        let folder = tempfile::tempdir().unwrap();
        let (place, six) = (place(&folder), f16::from_f32(6.0));
        let again = |place: &MappedPath| build(Some(place), six);
        for store in [build(None, six), again(&place), again(&place)] {
            assert_eq!(store.view(0).values, [1.0, 2.0, 3.0, 4.0].map(f16::from_f32));
            assert_eq!(store.view(1).values, [5.0, 6.0].map(f16::from_f32));
            assert_eq!(store.bytes(), 12);
            assert!(store.is_finite(0) && store.is_finite(1));
        }
        // A file of the right size that holds something else is made again.
        std::fs::write(&place.path, vec![0; std::fs::read(&place.path).unwrap().len()]).unwrap();
        assert_eq!(again(&place).view(1).values, [5.0, 6.0].map(f16::from_f32));
    }

    #[test]
    fn tracks_with_values_that_are_not_finite_are_known_from_memory_and_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let place = place(&folder);
        for value in [f16::NAN, f16::INFINITY] {
            for store in [build(None, value), build(Some(&place), value), build(Some(&place), value)] {
                assert!(store.is_finite(0) && !store.is_finite(1));
            }
            std::fs::remove_file(&place.path).unwrap();
        }
    }
}
