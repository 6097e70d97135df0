//! Checks any bytes read as a calibration: the result is an error that names the file, or probabilities.

use bc_calibration::Calibration;
use bc_testing::fuzzed::{in_file, names_file};
use bc_testing::memory::within;

pub fn calibration(bytes: &[u8]) {
    in_file("calibration.json", bytes, |path| {
        let read = within((8 << 20) + 400 * bytes.len(), || Calibration::read(path));
        let Some(calibration) = names_file(path, read) else { return };
        for score in [-1.0, 0.0, 0.5, 0.99, 1.0] {
            for prior in [1e-6, 0.5] {
                let kinds = calibration.kinds(score, false, None, prior);
                let shares = [kinds.same_audio, kinds.same_work, kinds.other];
                assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)), "{shares:?} at {score}");
            }
        }
        let _ = calibration.same_work_score();
        assert!(!calibration.tables().is_empty());
    });
}
