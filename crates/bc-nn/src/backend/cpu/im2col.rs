//! The windows of a convolution as a matrix that is never stored: its rows are (channel, tap), its columns (sample,
//! position), and it is zero where a window leaves the input.

use std::ops::Range;

use anyhow::{Result, bail};

use super::super::Shape;
use super::super::geometry::Geometry;
#[cfg(target_arch = "x86_64")]
use crate::simd::Isa;
use crate::simd::vectorized;

/// Number of columns that are fetched at once.
pub(super) const CHUNK: usize = 16;

/// Sizes of a convolution of x (C, B, H, W). Pairs are for height and width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    pub batch: usize,
    pub inputs: usize,
    pub height: usize,
    pub width: usize,
    pub outputs: usize,
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub padding: [usize; 2],
    /// Whether the rows form a ring: the last is above the first.
    pub ring: bool,
}

impl Sizes {
    pub fn new(x: Shape, weight: Shape, geometry: Geometry) -> Result<Self> {
        let [inputs, batch, height, width] = x;
        let [outputs, of_inputs, kernel_height, kernel_width] = weight;
        let Geometry { stride, padding, ring } = geometry;
        if of_inputs != inputs
            || height + 2 * padding[0] < kernel_height
            || width + 2 * padding[1] < kernel_width
            // On a ring there are as many results as rows.
            || ring && (2 * padding[0] + 1 != kernel_height || stride[0] != 1 || padding[0] > height)
        {
            bail!("a convolution of {x:?} with {weight:?}, {geometry:?}");
        }
        let kernel = [kernel_height, kernel_width];
        Ok(Self { batch, inputs, height, width, outputs, kernel, stride, padding, ring })
    }

    pub fn out_height(&self) -> usize {
        (self.height + 2 * self.padding[0] - self.kernel[0]) / self.stride[0] + 1
    }

    pub fn out_width(&self) -> usize {
        (self.width + 2 * self.padding[1] - self.kernel[1]) / self.stride[1] + 1
    }

    /// Returns the shape of the outputs.
    pub fn out_shape(&self) -> Shape {
        [self.outputs, self.batch, self.out_height(), self.out_width()]
    }

    /// Returns the number of outputs of one channel and sample.
    pub fn positions(&self) -> usize {
        self.out_height() * self.out_width()
    }

    /// Returns the number of outputs of one channel.
    pub fn columns(&self) -> usize {
        self.batch * self.positions()
    }

    /// Returns the number of inputs of one channel and sample.
    pub fn plane(&self) -> usize {
        self.height * self.width
    }

    /// Returns the number of values of a window in one channel.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Returns the number of values of a window in all channels.
    pub fn depth(&self) -> usize {
        self.inputs * self.taps()
    }

    /// Returns the row of the input that tap `ky` reads for row `y` of the output, if it is inside the input.
    pub fn row(&self, y: usize, ky: usize) -> Option<usize> {
        let position = y * self.stride[0] + ky;
        if self.ring {
            return Some((position + self.height - self.padding[0]) % self.height);
        }
        position.checked_sub(self.padding[0]).filter(|row| *row < self.height)
    }

    /// Returns whether the windows are the input itself.
    pub fn direct(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.padding == [0, 0]
    }
}

/// Lanes of a chunk that come from one row of the input: lane n is value `offset + n * stride` of a channel.
#[derive(Debug, Clone, Copy)]
struct Run {
    offset: i32,
    /// One bit for each lane.
    lanes: u16,
}

/// Neighbouring outputs of one row that belong to one chunk.
#[derive(Debug, Clone, Copy)]
struct Piece {
    /// First lane of the chunk.
    lane: usize,
    /// Number of outputs.
    length: usize,
    sample: usize,
    /// Row of the outputs.
    y: usize,
    /// Column of the first output.
    x: usize,
}

/// Which inputs the chunks of some columns are read from. It is the same for every channel.
pub(super) struct Map {
    taps: usize,
    stride: usize,
    chunks: usize,
    /// Number of inputs of a channel.
    channel: usize,
    /// Index of the first run of each (chunk, tap), and the number of all runs.
    starts: Vec<u32>,
    runs: Vec<Run>,
}

impl Map {
    /// Builds the map of a range of columns.
    pub fn new(sizes: &Sizes, columns: Range<usize>) -> Self {
        let (width, positions) = (sizes.out_width(), sizes.positions());
        let channel = sizes.batch * sizes.plane();
        assert!(columns.end <= sizes.columns() && channel < 1 << 30);
        let chunks = columns.len().div_ceil(CHUNK);
        let mut map = Self {
            taps: sizes.taps(),
            stride: sizes.stride[1],
            chunks,
            channel,
            starts: Vec::with_capacity(chunks * sizes.taps() + 1),
            runs: Vec::with_capacity(2 * chunks * sizes.taps()),
        };
        let mut pieces = Vec::with_capacity(CHUNK);
        for chunk in 0..chunks {
            let first = columns.start + chunk * CHUNK;
            let count = CHUNK.min(columns.end - first);
            pieces.clear();
            let mut lane = 0;
            while lane < count {
                let (sample, position) = ((first + lane) / positions, (first + lane) % positions);
                let (y, x) = (position / width, position % width);
                let length = (width - x).min(count - lane);
                pieces.push(Piece { lane, length, sample, y, x });
                lane += length;
            }
            for ky in 0..sizes.kernel[0] {
                for kx in 0..sizes.kernel[1] {
                    map.starts.push(map.runs.len() as u32);
                    for piece in &pieces {
                        map.runs.extend(run(sizes, [ky, kx], *piece));
                    }
                }
            }
        }
        map.starts.push(map.runs.len() as u32);
        map
    }

    /// Returns the runs of a chunk for a tap.
    fn runs(&self, chunk: usize, tap: usize) -> &[Run] {
        let at = chunk * self.taps + tap;
        &self.runs[self.starts[at] as usize..self.starts[at + 1] as usize]
    }

    /// Writes a range of rows of the matrix to `out`: chunk c of row r begins at
    /// `(c / 2) * pair_step + (c % 2) * CHUNK + (r - rows.start) * row_step`.
    pub fn fetch(&self, x: &[f32], rows: Range<usize>, out: &mut [f32], row_step: usize, pair_step: usize) {
        if rows.is_empty() || self.chunks == 0 {
            return;
        }
        let last = self.chunks - 1;
        let end = last / 2 * pair_step + last % 2 * CHUNK + (rows.len() - 1) * row_step + CHUNK;
        assert!(x.len() >= rows.end.div_ceil(self.taps) * self.channel && out.len() >= end);
        // The vectorised versions know strides of 1 and 2; no network has a larger one.
        #[cfg(target_arch = "x86_64")]
        let isa = if self.stride <= 2 { crate::simd::isa() } else { Isa::Baseline };
        #[cfg(target_arch = "x86_64")]
        match isa {
            // SAFETY: the machine has AVX-512; the assertions above and in `run` bound all accesses.
            Isa::Avx512 => return unsafe { self.fetch512(x, rows, out, row_step, pair_step) },
            // SAFETY: as above, with AVX2.
            Isa::Avx2 => return unsafe { self.fetch256(x, rows, out, row_step, pair_step) },
            Isa::Baseline => {}
        }
        self.each(&rows, |chunk, tap, channels| {
            let base = chunk / 2 * pair_step + chunk % 2 * CHUNK;
            for channel in channels {
                let from = &x[channel * self.channel..][..self.channel];
                let out = &mut out[base + (channel * self.taps + tap - rows.start) * row_step..][..CHUNK];
                out.fill(0.0);
                for run in self.runs(chunk, tap) {
                    // The lanes of a run are neighbours.
                    let first = run.lanes.trailing_zeros() as usize;
                    let out = &mut out[first..][..run.lanes.count_ones() as usize];
                    let from = &from[(run.offset + (first * self.stride) as i32) as usize..];
                    if self.stride == 1 {
                        out.copy_from_slice(&from[..out.len()]);
                    } else {
                        for (out, value) in out.iter_mut().zip(from.iter().step_by(self.stride)) {
                            *out = *value;
                        }
                    }
                }
            }
        });
    }

    /// Calls `work` with every chunk and tap, and the channels whose row of that tap is among `rows`.
    #[inline(always)]
    fn each(&self, rows: &Range<usize>, mut work: impl FnMut(usize, usize, Range<usize>)) {
        for chunk in 0..self.chunks {
            for tap in 0..self.taps {
                let first = rows.start.saturating_sub(tap).div_ceil(self.taps);
                let end = rows.end.saturating_sub(tap).div_ceil(self.taps);
                if first < end {
                    work(chunk, tap, first..end);
                }
            }
        }
    }

    /// Fetches rows like [`Map::fetch`], with AVX-512.
    ///
    /// # Safety
    /// The caller has made the checks of [`Map::fetch`]; the stride is 1 or 2, and the machine has AVX-512.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f")]
    unsafe fn fetch512(
        &self,
        x: &[f32],
        rows: Range<usize>,
        out: &mut [f32],
        row_step: usize,
        pair_step: usize,
    ) {
        use std::arch::x86_64::*;
        let evens = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
        self.each(&rows, |chunk, tap, channels| {
            let runs = self.runs(chunk, tap);
            let first = channels.start * self.taps + tap - rows.start;
            let base = chunk / 2 * pair_step + chunk % 2 * CHUNK + first * row_step;
            let mut to = out.as_mut_ptr().wrapping_add(base);
            let mut from = x.as_ptr().wrapping_add(channels.start * self.channel);
            for _ in channels {
                let mut values = _mm512_setzero_ps();
                for run in runs {
                    let from = from.wrapping_offset(run.offset as isize);
                    // SAFETY: lanes that are read are in the channel (see `run`), others are masked.
                    unsafe {
                        if self.stride == 1 {
                            values = _mm512_mask_loadu_ps(values, run.lanes, from);
                        } else {
                            let both = spread(run.lanes);
                            let low = _mm512_maskz_loadu_ps(both as u16, from);
                            let high = _mm512_maskz_loadu_ps((both >> 16) as u16, from.wrapping_add(16));
                            let picked = _mm512_permutex2var_ps(low, evens, high);
                            values = _mm512_mask_mov_ps(values, run.lanes, picked);
                        }
                    }
                }
                // SAFETY: `fetch` has checked the last of them.
                unsafe { _mm512_storeu_ps(to, values) };
                to = to.wrapping_add(row_step * self.taps);
                from = from.wrapping_add(self.channel);
            }
        });
    }

    /// Fetches rows like [`Map::fetch`], with AVX2.
    ///
    /// # Safety
    /// The caller has made the checks of [`Map::fetch`]; the stride is 1 or 2, and the machine has AVX2.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    unsafe fn fetch256(
        &self,
        x: &[f32],
        rows: Range<usize>,
        out: &mut [f32],
        row_step: usize,
        pair_step: usize,
    ) {
        use std::arch::x86_64::*;
        // At most one run begins in each lane of a chunk, so there are at most as many runs as lanes.
        let mut masked = [(0isize, [_mm256_setzero_si256(); 4]); CHUNK];
        self.each(&rows, |chunk, tap, channels| {
            let runs = self.runs(chunk, tap);
            let masked = &mut masked[..runs.len()];
            for (masked, run) in masked.iter_mut().zip(runs) {
                let lanes = if self.stride == 2 { spread(run.lanes) } else { run.lanes.into() };
                *masked = (run.offset as isize, std::array::from_fn(|i| mask256(lanes >> (8 * i))));
            }
            let first = channels.start * self.taps + tap - rows.start;
            let base = chunk / 2 * pair_step + chunk % 2 * CHUNK + first * row_step;
            let mut to = out.as_mut_ptr().wrapping_add(base);
            let mut from = x.as_ptr().wrapping_add(channels.start * self.channel);
            for _ in channels {
                let mut values = [_mm256_setzero_ps(); 2];
                for (offset, masks) in masked.iter() {
                    let from = from.wrapping_offset(*offset);
                    // SAFETY: lanes that are read are in the channel (see `run`), others are masked.
                    unsafe {
                        let read = |part: usize| _mm256_maskload_ps(from.wrapping_add(8 * part), masks[part]);
                        if self.stride == 1 {
                            values[0] = _mm256_or_ps(values[0], read(0));
                            values[1] = _mm256_or_ps(values[1], read(1));
                        } else {
                            for (half, values) in values.iter_mut().enumerate() {
                                let evens = _mm256_shuffle_ps::<0x88>(read(2 * half), read(2 * half + 1));
                                let evens = _mm256_permute4x64_pd::<0xd8>(_mm256_castps_pd(evens));
                                *values = _mm256_or_ps(*values, _mm256_castpd_ps(evens));
                            }
                        }
                    }
                }
                // SAFETY: `fetch` has checked the last of them.
                unsafe {
                    _mm256_storeu_ps(to, values[0]);
                    _mm256_storeu_ps(to.wrapping_add(8), values[1]);
                }
                to = to.wrapping_add(row_step * self.taps);
                from = from.wrapping_add(self.channel);
            }
        });
    }
}

/// Returns a vector mask: all bits of lane n are set if bit n of `bits` is set.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn mask256(bits: u32) -> std::arch::x86_64::__m256i {
    use std::arch::x86_64::*;
    let lanes = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(bits as i32), lanes), lanes)
}

/// Spreads bits: bit n of the lanes becomes bit 2 n of the result.
#[cfg(target_arch = "x86_64")]
fn spread(lanes: u16) -> u32 {
    let mut bits = u32::from(lanes);
    bits = (bits | bits << 8) & 0x00ff_00ff;
    bits = (bits | bits << 4) & 0x0f0f_0f0f;
    bits = (bits | bits << 2) & 0x3333_3333;
    (bits | bits << 1) & 0x5555_5555
}

/// Returns the run of those outputs of a piece for which tap (ky, kx) is inside the input; `None` if there are none.
fn run(sizes: &Sizes, [ky, kx]: [usize; 2], Piece { lane, length, sample, y, x }: Piece) -> Option<Run> {
    let Sizes { stride: [_, stride], padding: [_, padding], height, width, .. } = *sizes;
    let row = sizes.row(y, ky)?;
    // The outputs whose input column `x * stride + kx - padding` exists are `from..to`.
    let (mut from, mut to) = (x, x + length);
    if stride == 1 {
        from = from.max(padding.saturating_sub(kx));
        to = to.min((width + padding).saturating_sub(kx));
    } else {
        from = from.max(padding.saturating_sub(kx).div_ceil(stride));
        to = to.min((width + padding).saturating_sub(kx).div_ceil(stride));
    }
    if from >= to {
        return None;
    }
    let input = sample * height * width + row * width + from * stride + kx - padding;
    let (lane, count) = (lane + from - x, to - from);
    assert!(
        input + (count - 1) * stride < sizes.batch * height * width && sample < sizes.batch && count <= CHUNK
    );
    Some(Run { offset: input as i32 - (lane * stride) as i32, lanes: (((1u32 << count) - 1) << lane) as u16 })
}

vectorized! {
    /// Adds the values of `columns` (taps x a sample's positions, rows `distance` values apart) to the inputs of one sample
    /// that they belong to: the transpose of fetching them.
    fn col2im_sample(columns: &[f32], sizes: &Sizes, distance: usize, x: &mut [f32]) {
        let (width, stride, padding) = (sizes.out_width(), sizes.stride[1], sizes.padding[1]);
        for tap in 0..sizes.taps() {
            let (ky, kx) = (tap / sizes.kernel[1], tap % sizes.kernel[1]);
            let first = padding.saturating_sub(kx).div_ceil(stride);
            let last = (sizes.width + padding).saturating_sub(kx).div_ceil(stride).min(width);
            if first >= last {
                continue;
            }
            for y in 0..sizes.out_height() {
                let Some(row) = sizes.row(y, ky) else { continue };
                let from = &columns[tap * distance + y * width..][first..last];
                let to = &mut x[row * sizes.width + first * stride + kx - padding..];
                if stride == 1 {
                    for (to, from) in to.iter_mut().zip(from) {
                        *to += *from;
                    }
                } else {
                    for (to, from) in to.iter_mut().step_by(stride).zip(from) {
                        *to += *from;
                    }
                }
            }
        }
    }
}

/// Adds the values of `columns` (taps x columns) to the inputs of one channel that they belong to.
pub(super) fn col2im(columns: &[f32], sizes: &Sizes, x: &mut [f32]) {
    let distance = sizes.columns();
    for (sample, x) in x.chunks_mut(sizes.plane()).enumerate() {
        col2im_sample(&columns[sample * sizes.positions()..], sizes, distance, x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fetched_windows_are_those_of_the_indices() {
        for (kernel, stride, padding, height, width, ring) in [
            ([3, 3], [1, 1], [1, 1], 6, 14, false),
            ([3, 3], [2, 2], [1, 1], 7, 9, false),
            ([7, 7], [2, 2], [3, 3], 9, 40, false),
            ([1, 1], [2, 2], [0, 0], 5, 6, false),
            ([2, 2], [3, 3], [1, 1], 8, 11, false),
            ([5, 3], [1, 1], [0, 1], 9, 13, false),
            ([3, 2], [1, 3], [1, 1], 7, 10, true),
            ([5, 3], [1, 2], [2, 1], 4, 11, true),
        ] {
            let sizes =
                Sizes { batch: 3, inputs: 2, height, width, outputs: 1, kernel, stride, padding, ring };
            let x: Vec<f32> = (0..2 * 3 * height * width).map(|i| i as f32 + 1.0).collect();
            let columns = 5..sizes.columns() - 2;
            let map = Map::new(&sizes, columns.clone());
            let step = columns.len().next_multiple_of(CHUNK);
            let rows = 1..sizes.depth();
            let mut out = vec![-1.0; rows.len() * step];
            map.fetch(&x, rows.clone(), &mut out, step, 2 * CHUNK);
            for row in rows.clone() {
                for column in columns.clone() {
                    let (channel, tap) = (row / sizes.taps(), row % sizes.taps());
                    let (sample, position) = (column / sizes.positions(), column % sizes.positions());
                    let down = position / sizes.out_width() * stride[0] + tap / kernel[1];
                    let along = position % sizes.out_width() * stride[1] + tap % kernel[1];
                    let xx = along as isize - padding[1] as isize;
                    let mut y = down as isize - padding[0] as isize;
                    if ring {
                        y = y.rem_euclid(height as isize);
                    }
                    let inside = (0..height as isize).contains(&y) && (0..width as isize).contains(&xx);
                    let expected = if inside {
                        x[(channel * 3 + sample) * height * width + y as usize * width + xx as usize]
                    } else {
                        0.0
                    };
                    assert_eq!(out[(row - rows.start) * step + column - columns.start], expected);
                }
            }
        }
    }
}
