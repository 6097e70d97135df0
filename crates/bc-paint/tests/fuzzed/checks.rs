//! Checks that any bytes read as notes give an error, nothing, or a work that is painted with finite values.

use bc_formats::config::PaintConfig;
use bc_formats::features::CqtSettings;
use bc_paint::read::{midi, tunes};
use bc_paint::work::Setting;
use bc_paint::{Painter, VariationRange, VersionSeed, Work};
use bc_testing::memory::within;

fn paint(setting: Setting) {
    let work = Work { id: "w".into(), title: String::new(), settings: vec![setting] };
    let settings = CqtSettings { pool: 20, ..CqtSettings::default() };
    let painter = Painter::new(&settings, VariationRange::from_config(&PaintConfig::default()))
        .expect("usual settings");
    for version in 0..2 {
        let picture = painter.paint(&work, VersionSeed { seed: 1, epoch: 0, version }, 20);
        assert!(picture.values.iter().all(|value| value.is_finite() && *value >= 0.0), "version {version}");
    }
}

fn limit(bytes: &[u8]) -> usize {
    (64 << 20) + 1000 * bytes.len()
}

pub fn midi(bytes: &[u8]) {
    within(limit(bytes), || midi::setting(bytes).ok().flatten().map(paint));
}

pub fn tunes(bytes: &[u8]) {
    let Ok(line) = std::str::from_utf8(bytes) else { return };
    within(limit(bytes), || tunes::parse(line).ok().flatten().map(|(_, _, setting)| paint(setting)));
}
