//! Measures for scripts/bench_*.sh and scripts/check_mp3.sh; prints seconds of wall time.
//!
//! `measure cqt ROUNDS` transforms 240 s of noise on one thread; `measure decode THREADS FILE…` decodes
//! files and throws their samples away (`symphonia` instead of `decode`: MP3 by symphonia); `measure needed THREADS FILE…`
//! decodes what features need of them; `measure lengths FILE…` prints each file's decoded samples at its rate, the
//! rate, and frames that do not decode, or why it gives no features.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Instant;

use bc_audio::cqt::CqtPlan;
use bc_audio::deadline::Deadline;
use bc_audio::decode::{Decoder, Reading};
use bc_audio::{Extractor, Limits};
use bc_formats::config::Mp3Decoder;
use bc_formats::features::CqtSettings;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize| arguments[index].parse::<usize>().expect("a number");
    match arguments[0].as_str() {
        "cqt" => cqt(number(1)),
        what @ ("decode" | "needed" | "symphonia") => {
            let need = (what == "needed").then(|| CqtPlan::new(CqtSettings::default()).need());
            let mp3 = if what == "symphonia" { Mp3Decoder::Symphonia } else { Mp3Decoder::Own };
            let files = arguments[2..].iter().map(PathBuf::from).collect();
            read(number(1), files, Reading { need, mp3 });
        }
        "lengths" => lengths(&arguments[1..]),
        other => panic!("`{other}` is not one of cqt, decode, symphonia, needed, lengths"),
    }
}

fn cqt(rounds: usize) {
    let extractor = Extractor::new(CqtSettings { pool: 1, ..CqtSettings::default() }, Limits::default());
    let sample = |n: u32| (n.wrapping_mul(2_654_435_761) >> 8) as f32 / 8_388_608.0 - 1.0;
    let samples: Vec<f32> = (0..240 * 22_050).map(sample).collect();
    extractor.samples(&samples);
    let mut best = f64::MAX;
    for _ in 0..rounds {
        let started = Instant::now();
        std::hint::black_box(extractor.samples(&samples));
        best = best.min(started.elapsed().as_secs_f64());
    }
    println!("{best:.4}");
}

/// The largest files first, as extraction does.
fn read(threads: usize, mut files: Vec<PathBuf>, reading: Reading) {
    files.sort_by_key(|file| file.metadata().map_or(0, |about| about.len()));
    let files = Mutex::new(files);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(file) = { files.lock().unwrap().pop() } {
                    let deadline = Deadline::after(600.0);
                    let mut decoder = Decoder::open(&file, deadline, reading).expect("a sound file");
                    let mut sum = 0.0f32;
                    while let Some(block) = decoder.next_block().expect("a sound file") {
                        sum += block[0];
                    }
                    std::hint::black_box(sum);
                }
            });
        }
    });
    println!("{:.3}", started.elapsed().as_secs_f64());
}

fn lengths(files: &[String]) {
    let extractor = Extractor::new(CqtSettings::default(), Limits::default());
    for file in files {
        match extractor.file(file.as_ref()) {
            Ok(features) => {
                let rate = features.header.sample_rate;
                let samples = (features.duration_s * f64::from(rate)).round();
                println!("{samples} {rate} {} {file}", features.file_frames.failed);
            }
            Err(error) => println!("failure {error} {file}"),
        }
    }
}
