//! Joint stereo (ISO/IEC 11172-3, 2.4.3.4.9; 13818-3, 2.4.3.2).

use std::f32::consts::FRAC_1_SQRT_2;

use crate::bands::{Band, MAX_BANDS, bands, long_bands};
use crate::header::Header;
use crate::scalefactors::{NO_POSITION, Scalefactors};
use crate::side_info::{BlockType, Granule};

/// Turns mid and side into left and right.
#[inline(always)]
pub(crate) fn mid_side(left: &mut [f32], right: &mut [f32]) {
    for (l, r) in left.iter_mut().zip(right) {
        let (mid, side) = (FRAC_1_SQRT_2 * *l, FRAC_1_SQRT_2 * *r);
        (*l, *r) = (mid + side, mid - side);
    }
}

/// What [`downmix_if_possible`] left in the buffers of the channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Downmix {
    /// The mean of the channels is in `left`.
    Mean,
    /// Half of each channel is in its own buffer, because their windows differ: they are added after the transform.
    Halves,
}

/// Leaves the mean of the channels in `left`, or, without the `same_windows`, half of each channel in its own buffer.
#[inline(always)]
pub(crate) fn downmix_if_possible(
    left: &mut [f32; 576],
    right: &mut [f32; 576],
    is_mid_side: bool,
    same_windows: bool,
) -> Downmix {
    match (is_mid_side, same_windows) {
        // (L + R) / 2 of L = (M + S) / sqrt 2 and R = (M - S) / sqrt 2.
        (true, true) => left.iter_mut().for_each(|mid| *mid *= FRAC_1_SQRT_2),
        (false, true) => left.iter_mut().zip(right).for_each(|(l, r)| *l = 0.5 * (*l + *r)),
        (is_mid_side, false) => {
            if is_mid_side {
                mid_side(left, right);
            }
            left.iter_mut().chain(right).for_each(|line| *line *= 0.5);
            return Downmix::Halves;
        }
    }
    Downmix::Mean
}

/// Left and right of intensity stereo: above the right channel's last nonzero line each band of the left channel is distributed by its
/// intensity position; the bands below, and bands without a position, are left/right or mid/side stereo. Both channels have the same windows.
#[cold]
pub(crate) fn intensity(
    header: &Header,
    granules: &[Granule],
    scalefactors: &Scalefactors,
    left: &mut [f32; 576],
    right: &mut [f32; 576],
) {
    let bands = bands(header, &granules[0]);
    let short = granules[0].block_type == BlockType::Short;
    let mut last = [None; 3];
    for (at, band) in bands.iter().enumerate() {
        if band.lines().any(|line| right[line] != 0.0) {
            last[at % 3] = Some(at);
        }
    }
    if long_bands(header, &granules[0]) > 0 {
        last = [last.into_iter().flatten().max(); 3];
    }
    let positions = with_last_bands(header, &scalefactors.positions, bands.len(), &last, short);
    let halved = granules[1].scalefac_compress & 1 == 1;
    for (at, band) in bands.iter().enumerate() {
        let position = positions[at];
        if last[at % 3].is_none_or(|last| at > last) && position != NO_POSITION {
            let (to_left, to_right) = shares(header, position, halved);
            for line in band.lines() {
                (left[line], right[line]) = (to_left * left[line], to_right * left[line]);
            }
        } else if header.mid_side() {
            mid_side_band(*band, left, right);
        }
    }
}

fn mid_side_band(band: Band, left: &mut [f32; 576], right: &mut [f32; 576]) {
    for line in band.lines() {
        mid_side(&mut left[line..=line], &mut right[line..=line]);
    }
}

/// Returns the positions completed for each window's last band, which has no scale factor: that of the band before it, or the
/// middle if that band does not use intensity stereo.
fn with_last_bands(
    header: &Header,
    positions: &[u8; MAX_BANDS],
    count: usize,
    last: &[Option<usize>; 3],
    short: bool,
) -> [u8; MAX_BANDS] {
    let mut positions = *positions;
    let windows = if short { 3 } else { 1 };
    let middle = if header.mpeg1() { 3 } else { 0 };
    for (window, last) in last.iter().enumerate().take(windows) {
        let top = count - windows + window;
        let before = top - windows;
        positions[top] = if last.is_some_and(|last| last >= before) { middle } else { positions[before] };
    }
    positions
}

/// Factors of a band's lines for the left and the right channel.
fn shares(header: &Header, position: u8, halved: bool) -> (f32, f32) {
    if header.mpeg1() {
        // tan(position * pi / 12) : 1, in parts of their sum.
        let ratio = (f64::from(position) * std::f64::consts::PI / 12.0).tan();
        return if position == 6 {
            (1.0, 0.0)
        } else {
            ((ratio / (1.0 + ratio)) as f32, (1.0 / (1.0 + ratio)) as f32)
        };
    }
    // Steps of 3 dB, or of 1.5.
    let step = if halved { 0.5 } else { 0.25 };
    let less = (-step * f64::from(position.div_ceil(2))).exp2() as f32;
    if position % 2 == 1 { (less, 1.0) } else { (1.0, less) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn downmixed_channels_with_different_windows_equal_the_mean() {
        let values = |seed: usize| std::array::from_fn(|n| ((n * 37 + seed * 101) % 97) as f32 - 48.0);
        for is_mid_side in [false, true] {
            let (mut mean_of_both, mut other) = (values(1), values(2));
            let downmix = downmix_if_possible(&mut mean_of_both, &mut other, is_mid_side, true);
            assert_eq!(downmix, Downmix::Mean);
            let (mut left, mut right) = (values(1), values(2));
            let downmix = downmix_if_possible(&mut left, &mut right, is_mid_side, false);
            assert_eq!(downmix, Downmix::Halves);
            for n in 0..576 {
                assert!((left[n] + right[n] - mean_of_both[n]).abs() < 1e-4, "{is_mid_side} {n}");
            }
        }
    }

    #[test]
    fn mpeg1_intensity_positions_are_between_right_and_left() {
        let header = Header::read(&[0xff, 0xfb, 0x90, 0x70]).unwrap();
        let near = |(a, b): (f32, f32), (c, d): (f32, f32)| (a - c).abs() < 1e-6 && (b - d).abs() < 1e-6;
        assert!(near(shares(&header, 0, false), (0.0, 1.0)));
        assert!(near(shares(&header, 1, false), (0.211_324_87, 0.788_675_1)));
        assert!(near(shares(&header, 3, false), (0.5, 0.5)));
        assert!(near(shares(&header, 6, false), (1.0, 0.0)));
    }
}
