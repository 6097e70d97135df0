//! Draws a recording's magnitudes as a small grey picture, which the page colours.

use anyhow::Result;
use bc_audio::Features;

/// Maximum width in pixels; in longer recordings several columns are averaged.
const MAX_WIDTH: usize = 1400;
/// Values this many decibels below the loudest are black.
const RANGE_DB: f32 = 60.0;

/// A PNG of 8 bits grey: one row per bin, the highest first; white is the loudest.
///
/// # Errors
/// Does not fail in practice, because the encoder writes to memory.
pub fn png(features: &Features, bins: usize) -> Result<Vec<u8>> {
    let frames = features.frames;
    let width = frames.clamp(1, MAX_WIDTH);
    let mut loudness = vec![0f32; bins * width];
    for (bin, row) in features.magnitude.chunks_exact(frames.max(1)).enumerate() {
        for (column, value) in loudness[bin * width..][..width].iter_mut().enumerate() {
            let [from, to] = [column, column + 1].map(|column| column * frames / width);
            let sum: f32 = row[from..to].iter().map(|value| value.to_f32()).sum();
            *value = sum / (to - from) as f32;
        }
    }
    let loudest = loudness.iter().copied().fold(1e-9, f32::max);
    let grey = |value: f32| {
        let below_db = 20.0 * (value.max(1e-9) / loudest).log10();
        (255.0 * (1.0 + below_db / RANGE_DB)).clamp(0.0, 255.0) as u8
    };
    let pixels: Vec<u8> =
        (0..bins).rev().flat_map(|bin| &loudness[bin * width..][..width]).map(|value| grey(*value)).collect();
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width as u32, bins as u32);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels)?;
    writer.finish()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    #[test]
    fn highest_bin_is_on_top_and_loudest_value_is_white() {
        let (bins, frames) = (3, 2 * MAX_WIDTH);
        let mut magnitude = vec![f16::from_f32(0.0); bins * frames];
        magnitude[..frames].fill(f16::from_f32(1.0));
        magnitude[frames..2 * frames].fill(f16::from_f32(0.0316));
        let header = bc_audio::decode::Header { sample_rate: 1, channels: 1, ..Default::default() };
        let features = Features {
            magnitude,
            frames,
            duration_s: 1.0,
            header,
            file_frames: bc_audio::decode::Frames::default(),
        };
        let bytes = png(&features, bins).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height), (MAX_WIDTH as u32, 3));
        assert_eq!([pixels[0], pixels[2 * MAX_WIDTH]], [0, 255], "silence on top, the loudest at the bottom");
        assert!((125..=130).contains(&pixels[MAX_WIDTH]), "30 dB below: {}", pixels[MAX_WIDTH]);
    }
}
