//! What the calibrations of the network that comes along promise, by whole recordings and by short windows: the figures that
//! docs/notes-eval.md quotes.

use std::path::Path;

use bc_calibration::Calibration;

#[test]
fn copies_are_certain_and_absent_songs_are_said_to_be_absent_in_indexes_of_any_size() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/networks/default");
    for (name, by_windows) in [("calibration.json", false), ("calibration-windows.json", true)] {
        let read = Calibration::read(&folder.join(name)).unwrap();
        assert_eq!(read.compare().unwrap().is_some(), by_windows);
        println!(
            "{name}: works, its work first, none of nine in ten without it, exact copy of 99 in 100, error"
        );
        for row in &read.sizes {
            println!(
                "{:>9} {:.3} {:.3} {:.4} {:.4}",
                row.works, row.first, row.least_none_without, row.least_of_copy, row.error
            );
            assert!(row.least_of_copy >= 0.95, "{name}: a copy among {}", row.works);
            assert!(row.least_none_without >= 0.9, "{name}: none among {}", row.works);
            assert!(row.error < 0.02, "{name}: {} works", row.works);
            // Where many answers are, what is said is not far above what is found.
            for said in row.reliability.iter().filter(|said| said.answers >= 50) {
                assert!(said.said <= said.found + 0.05, "{name}: {said:?} among {}", row.works);
            }
        }
        assert_eq!(read.sizes.last().map(|row| row.works), Some(1_000_000));
    }
}
