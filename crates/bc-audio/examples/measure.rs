//! Measures for scripts/bench_*.sh; prints seconds of wall time.
//!
//! `measure cqt ROUNDS` transforms 240 s of noise on one thread; `measure decode THREADS FILE…` decodes
//! files and throws their samples away; `measure resample THREADS FILE…` also resamples them.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Instant;

use bc_audio::decode::Decoder;
use bc_audio::patience::Deadline;
use bc_audio::resample::Resample;
use bc_audio::{Extractor, Limits};
use bc_formats::features::CqtSettings;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |place: usize| arguments[place].parse::<usize>().expect("a number");
    match arguments[0].as_str() {
        "cqt" => cqt(number(1)),
        what @ ("decode" | "resample") => {
            read(number(1), arguments[2..].iter().map(PathBuf::from).collect(), what == "resample");
        }
        other => panic!("`{other}` is none of cqt, decode, resample"),
    }
}

fn cqt(rounds: usize) {
    let extractor = Extractor::new(CqtSettings { pool: 1, ..CqtSettings::default() }, Limits::default());
    let sample = |n: u32| (n.wrapping_mul(2_654_435_761) >> 8) as f32 / 8_388_608.0 - 1.0;
    let samples: Vec<f32> = (0..240 * 22_050).map(sample).collect();
    extractor.samples(&samples);
    let mut best = f64::MAX;
    for _ in 0..rounds {
        let begun = Instant::now();
        std::hint::black_box(extractor.samples(&samples));
        best = best.min(begun.elapsed().as_secs_f64());
    }
    println!("{best:.4}");
}

/// The largest files first, as extraction does.
fn read(threads: usize, mut files: Vec<PathBuf>, resampled: bool) {
    files.sort_by_key(|file| file.metadata().map_or(0, |about| about.len()));
    let files = Mutex::new(files);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(file) = { files.lock().unwrap().pop() } {
                    let mut decoder = Decoder::open(&file, Deadline::after(600.0)).expect("a sound file");
                    let rate = decoder.header().sample_rate;
                    let mut resample = resampled.then(|| Resample::new(rate, 22_050).expect("a rate"));
                    let mut sum = 0.0f32;
                    while let Some(block) = decoder.next_block().expect("a sound file") {
                        sum += block[0];
                        if let Some(resample) = &mut resample {
                            resample.push(block, &mut |made| sum += made[0]).expect("a block");
                        }
                    }
                    std::hint::black_box(sum);
                }
            });
        }
    });
    println!("{:.3}", begun.elapsed().as_secs_f64());
}
