//! Draws PNG pictures that look the same on every machine.
//!
//! **In**: a path and a closure that draws with plotters. **Out**: a complete PNG file, or none on errors. The font is part of the
//! program, because clusters and containers often have none.

use std::path::Path;
use std::sync::Once;

use anyhow::{Context, Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

pub use plotters;

/// The font DejaVu Sans, ASCII characters only.
static FONT: &[u8] = include_bytes!("../assets/DejaVuSans-ascii.ttf");

/// The drawing area of a picture.
pub type Area<'a> = DrawingArea<BitMapBackend<'a>, Shift>;

/// Writes the PNG `path` of `size` (width, height) pixels; `draw` gets a white area. The font
/// is called `sans-serif`.
///
/// # Errors
/// Errors of `draw`, and a file that cannot be written.
pub fn png(
    path: &Path,
    size: (u32, u32),
    draw: impl FnOnce(&Area<'_>) -> Result<(), Box<dyn std::error::Error>>,
) -> Result<()> {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        let registered = plotters::style::register_font("sans-serif", FontStyle::Normal, FONT);
        debug_assert!(registered.is_ok(), "the built-in font is readable");
    });
    let failed = || format!("cannot draw {}", path.display());
    let (width, height) = size;
    let mut pixels = vec![0; 3 * width as usize * height as usize];
    {
        let area = BitMapBackend::with_buffer(&mut pixels, size).into_drawing_area();
        let drawn = area.fill(&WHITE).map_err(Into::into).and_then(|()| draw(&area));
        drawn
            .and_then(|()| area.present().map_err(Into::into))
            .map_err(|e| anyhow!("{e}"))
            .with_context(failed)?;
    }
    bc_formats::atomic::write_with(path, |file| {
        let mut encoder = png::Encoder::new(file, width, height);
        encoder.set_color(png::ColorType::Rgb);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&pixels)?;
        Ok(writer.finish()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn png_has_its_size_and_replaces_the_file_atomically() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.png");
        png(&path, (200, 60), |area| {
            area.draw(&Text::new("C#4", (20, 20), ("sans-serif", 20)))?;
            Ok(())
        })
        .unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(&bytes[1..4], b"PNG");
        assert_eq!(&bytes[16..24], [0, 0, 0, 200, 0, 0, 0, 60]);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        let failed = png(&path, (10, 10), |_| Err("no ink".into())).unwrap_err();
        assert!(format!("{failed:#}").contains("b.png: no ink"));
    }
}
