//! Checks the calibrations of the included network, by whole recordings and by short windows: docs/notes-eval.md quotes
//! these figures.

use std::path::Path;

use bc_calibration::Calibration;

#[test]
fn default_calibrations_recognise_copies_and_absent_songs_in_indexes_of_any_size() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/networks/default");
    for (name, by_windows) in [("calibration.json", false), ("calibration-windows.json", true)] {
        let read = Calibration::read(&folder.join(name)).unwrap();
        assert_eq!(read.compare().unwrap().is_some(), by_windows);
        println!(
            "{name}: works, its work first, 10th percentile of none without it, 1st percentile of an exact copy, error"
        );
        for row in &read.sizes {
            println!(
                "{:>9} {:.3} {:.3} {:.4} {:.4}",
                row.works, row.first, row.none_p10, row.copy_p1, row.error
            );
            assert!(row.copy_p1 >= 0.95, "{name}: a copy among {}", row.works);
            assert!(row.none_p10 >= 0.9, "{name}: none among {}", row.works);
            assert!(row.error < 0.02, "{name}: {} works", row.works);
            // With enough answers, the predicted probability is not far above the observed share.
            for bin in row.reliability.iter().filter(|bin| bin.answers >= 50) {
                assert!(bin.predicted <= bin.observed + 0.05, "{name}: {bin:?} among {}", row.works);
            }
        }
        assert_eq!(read.sizes.last().map(|row| row.works), Some(1_000_000));
    }
}
