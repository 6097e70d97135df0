//! The demo set: composed songs, each played in several versions.
//!
//! The versions of a clique share melody, harmony and the order of phrases; key, tempo, timbre,
//! accompaniment, form, room, noise and level differ. In: `[synth]`. Out: WAV files in
//! `<output>/audio-<settings>/`, and `<output>/versions.csv` with their cliques and splits, which
//! `[index] source = "synth"` reads; on demand also copies in one folder per song ([`by_song`]).

mod arrange;
pub mod by_song;
mod compose;
mod event;
mod instruments;
mod oscillators;
mod render;

use std::path::Path;

use anyhow::{Context, Result};
use bc_cli::{Interrupted, interrupt, progress};
use bc_formats::atomic;
use bc_formats::config::SynthConfig;
use bc_formats::fingerprint::Fingerprint;
use rand::SeedableRng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Name of the list.
pub const LIST: &str = "versions.csv";
/// Version of the synthesis, increased whenever the same settings would give other sounds.
const SYNTHESIS_VERSION: u32 = 1;

const ADJECTIVES: [&str; 16] = [
    "Quiet", "Golden", "Broken", "Distant", "Early", "Hollow", "Silver", "Restless", "Northern", "Gentle",
    "Burning", "Paper", "Velvet", "Second", "Winter", "Open",
];
const NOUNS: [&str; 16] = [
    "Harbour", "Morning", "Letter", "Garden", "Road", "Mirror", "River", "Window", "Season", "Engine",
    "Island", "Promise", "Signal", "Orchard", "Lantern", "Tide",
];

/// A version's row in the list.
struct Planned {
    clique: u32,
    version: u32,
    id: String,
    file: String,
}

/// Writes the missing files of the set, and its list. Returns the number of versions and of
/// those that were rendered now.
///
/// # Errors
/// A folder that cannot be written.
pub fn run(config: &SynthConfig) -> Result<(usize, usize)> {
    let versions = planned_versions(config);
    let missing: Vec<&Planned> =
        versions.iter().filter(|planned| !is_complete(&config.output.join(&planned.file))).collect();
    interrupt::install("finishing the songs that are being rendered; the same command continues from here")?;
    let bar = progress::bar(missing.len() as u64, "rendering", "versions");
    missing.par_iter().try_for_each(|planned| -> Result<()> {
        if !interrupt::requested() {
            let (arrangement, samples) = perform(config, planned);
            debug_assert!(arrangement.seconds > 0.0);
            write(&config.output.join(&planned.file), &samples, config.sample_rate)?;
            bar.inc(1);
        }
        Ok(())
    })?;
    bar.finish_and_clear();
    if interrupt::requested() {
        anyhow::bail!(Interrupted("whole songs stay, and the same command continues".to_owned()));
    }
    let list = list(config, &versions)?;
    let path = config.output.join(LIST);
    if std::fs::read(&path).map_or(true, |found| found != list) {
        atomic::write(&path, &list)?;
    }
    Ok((versions.len(), missing.len()))
}

/// Returns all versions of the set, clique by clique.
fn planned_versions(config: &SynthConfig) -> Vec<Planned> {
    let mut fingerprint = Fingerprint::of("synth");
    // The path of the folder does not affect its content.
    let settings = SynthConfig { output: Default::default(), ..config.clone() };
    let fingerprint = fingerprint.add(SYNTHESIS_VERSION.to_le_bytes()).add_json(&settings).finish();
    let folder = format!("audio-{}", &fingerprint[..8]);
    (0..config.cliques)
        .flat_map(|clique| (0..config.versions).map(move |version| (clique, version)))
        .map(|(clique, version)| {
            let id = format!("s{clique:04}v{version:02}");
            Planned { clique, version, file: format!("{folder}/{id}.wav"), id }
        })
        .collect()
}

/// Returns an independent generator for each purpose, so that versions can be rendered in any order.
fn generator(seed: u64, clique: u32, version: Option<u32>) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(u64::from(clique) << 32 | version.map_or(0, |version| u64::from(version) + 1));
    rng
}

/// Arranges a version; also returns the generator that its rendering continues with.
fn arranged(config: &SynthConfig, planned: &Planned) -> (arrange::Arrangement, ChaCha8Rng) {
    let song = compose::song(&mut generator(config.seed, planned.clique, None), config.seconds);
    let mut rng = generator(config.seed, planned.clique, Some(planned.version));
    let ranges =
        arrange::Ranges { transposition: config.transposition as i32, tempo_factor: config.tempo_factor };
    (arrange::version(&song, ranges, &mut rng), rng)
}

/// Arranges and renders a version.
fn perform(config: &SynthConfig, planned: &Planned) -> (arrange::Arrangement, Vec<f32>) {
    let (arrangement, mut rng) = arranged(config, planned);
    let samples = render::samples(&arrangement, config.sample_rate, &mut rng);
    (arrangement, samples)
}

/// Returns the length of the file of an arrangement: its samples over their rate.
fn duration_s(arrangement: &arrange::Arrangement, config: &SynthConfig) -> f64 {
    render::length(arrangement, config.sample_rate) as f64 / f64::from(config.sample_rate)
}

/// Returns whether a WAV file of this module exists with all its samples. (A full disk or an interrupted copy leaves a
/// shorter file.)
fn is_complete(path: &Path) -> bool {
    let Ok(bytes) = std::fs::metadata(path).map(|file| file.len()) else { return false };
    hound::WavReader::open(path)
        .is_ok_and(|reader| reader.len() > 0 && bytes == 44 + 2 * u64::from(reader.len()))
}

/// Writes mono samples as a WAV file of 16 bits.
fn write(path: &Path, samples: &[f32], rate: u32) -> Result<()> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: rate,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut bytes = std::io::Cursor::new(Vec::with_capacity(2 * samples.len() + 44));
    let mut writer = hound::WavWriter::new(&mut bytes, spec)?;
    for sample in samples {
        writer.write_sample((sample * 32_767.0) as i16)?;
    }
    writer.finalize().with_context(|| format!("cannot write {}", path.display()))?;
    atomic::write(path, bytes.into_inner())
}

/// Returns the list of all versions as CSV.
fn list(config: &SynthConfig, versions: &[Planned]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record([
        "id",
        "clique",
        "title",
        "performer",
        "split",
        "path",
        "transposition",
        "tempo_factor",
        "duration_s",
    ])?;
    for planned in versions {
        let (arrangement, mut rng) = arranged(config, planned);
        let title = title(config, planned.clique);
        let performer = performer(&arrangement, &mut rng);
        let split = match planned.clique {
            clique if clique < config.test_cliques => "test",
            clique if clique < config.test_cliques + config.val_cliques => "val",
            _ => "train",
        };
        let clique = format!("s{:04}", planned.clique);
        writer.write_record([
            &planned.id,
            &clique,
            &title,
            &performer,
            split,
            &planned.file,
            &arrangement.transposition.to_string(),
            &format!("{:.3}", arrangement.tempo_factor),
            &format!("{:.6}", duration_s(&arrangement, config)),
        ])?;
    }
    Ok(writer.into_inner()?)
}

/// The name of a song: the same for all its versions, not always different from another song's.
fn title(config: &SynthConfig, clique: u32) -> String {
    let mut rng = generator(config.seed ^ 0x6e61_6d65, clique, None);
    format!("{} {}", word(&mut rng, &ADJECTIVES), word(&mut rng, &NOUNS))
}

/// The name of a version's performer, after its instruments; `rng` as [`arranged`] returns it.
fn performer(arrangement: &arrange::Arrangement, rng: &mut ChaCha8Rng) -> String {
    let [lead, comping] = arrangement.instruments.map(event::Voice::name);
    format!("The {} {lead} & {comping}", word(rng, &ADJECTIVES))
}

fn word(rng: &mut ChaCha8Rng, words: &[&'static str]) -> &'static str {
    words.choose(rng).unwrap_or(&"Song")
}
