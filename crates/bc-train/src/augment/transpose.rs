//! Transposition: every bin moves by the same number of bins.

use crate::data::Patch;

/// Moves the music up by `bins` (down if negative). Bins that leave the range are lost,
/// bins that enter it are silent.
pub fn transpose(patch: &mut Patch, bins: i32) {
    let offset = bins.unsigned_abs() as usize * patch.frames;
    let all = patch.data.len();
    if offset >= all {
        patch.data.fill(0.0);
    } else if bins > 0 {
        patch.data.copy_within(..all - offset, offset);
        patch.data[..offset].fill(0.0);
    } else if bins < 0 {
        patch.data.copy_within(offset.., 0);
        patch.data[all - offset..].fill(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn patch() -> Patch {
        Patch { bins: 3, frames: 2, data: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0] }
    }

    #[test]
    fn positive_bins_move_rows_up() {
        let mut p = patch();
        transpose(&mut p, 1);
        assert_eq!(p.data, vec![0.0, 0.0, 1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn negative_bins_move_rows_down() {
        let mut p = patch();
        transpose(&mut p, -2);
        assert_eq!(p.data, vec![5.0, 6.0, 0.0, 0.0, 0.0, 0.0]);
    }

    proptest! {
        #[test]
        fn transposing_up_and_back_loses_only_the_upper_rows(by in 0i32..6) {
            let original = Patch { bins: 5, frames: 3, data: (1..=15).map(|i| i as f32).collect() };
            let mut p = original.clone();
            transpose(&mut p, by);
            transpose(&mut p, -by);
            let kept = 15usize.saturating_sub(by as usize * 3);
            prop_assert_eq!(&p.data[..kept], &original.data[..kept]);
            prop_assert!(p.data[kept..].iter().all(|&v| v == 0.0));
        }
    }
}
