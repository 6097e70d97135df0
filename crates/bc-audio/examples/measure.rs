//! Measures for scripts/bench_*.sh; prints seconds of wall time.
//!
//! `measure cqt ROUNDS` transforms 240 s of noise on one thread; `measure decode THREADS FILE…` decodes
//! files and throws their samples away; `measure needed THREADS FILE…` decodes what features need of them.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Instant;

use bc_audio::cqt::CqtPlan;
use bc_audio::decode::Decoder;
use bc_audio::mp3::Need;
use bc_audio::patience::Deadline;
use bc_audio::{Extractor, Limits};
use bc_formats::features::CqtSettings;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |place: usize| arguments[place].parse::<usize>().expect("a number");
    match arguments[0].as_str() {
        "cqt" => cqt(number(1)),
        what @ ("decode" | "needed") => {
            let need = (what == "needed").then(|| CqtPlan::new(CqtSettings::default()).need());
            read(number(1), arguments[2..].iter().map(PathBuf::from).collect(), need);
        }
        other => panic!("`{other}` is none of cqt, decode, needed"),
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
fn read(threads: usize, mut files: Vec<PathBuf>, need: Option<Need>) {
    files.sort_by_key(|file| file.metadata().map_or(0, |about| about.len()));
    let files = Mutex::new(files);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(file) = { files.lock().unwrap().pop() } {
                    let deadline = Deadline::after(600.0);
                    let opened = match need {
                        None => Decoder::open(&file, deadline),
                        Some(need) => Decoder::open_for(&file, deadline, need),
                    };
                    let mut decoder = opened.expect("a sound file");
                    let mut sum = 0.0f32;
                    while let Some(block) = decoder.next_block().expect("a sound file") {
                        sum += block[0];
                    }
                    std::hint::black_box(sum);
                }
            });
        }
    });
    println!("{:.3}", begun.elapsed().as_secs_f64());
}
