//! Two seconds of stereo MP3 (a fixture) to mono samples: all of them by symphonia, all and half of them by us.

use std::hint::black_box;
use std::path::Path;

use bc_audio::deadline::Deadline;
use bc_audio::decode::{Decoder, Reading};
use bc_audio::need::Need;
use bc_formats::config::Mp3Decoder;
use criterion::{Criterion, criterion_group, criterion_main};

fn decoders(criterion: &mut Criterion) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bc-mp3/tests/fixtures/joint-44100.mp3");
    let need = |sample_rate| Some(Need { sample_rate, highest_hz: 4_500.0 });
    for (name, mp3, need) in [
        ("symphonia", Mp3Decoder::Symphonia, None),
        ("full rate", Mp3Decoder::Own, need(44_100)),
        ("half rate", Mp3Decoder::Own, need(22_050)),
    ] {
        criterion.bench_function(&format!("mp3, 2 s, {name}"), |bench| {
            bench.iter(|| {
                let deadline = Deadline::after(600.0);
                let mut decoder =
                    Decoder::open(&path, deadline, Reading { need, mp3 }).expect("a sound file");
                while let Some(block) = decoder.next_block().expect("a sound file") {
                    black_box(block);
                }
            });
        });
    }
}

criterion_group! {
    name = benches;
    // Plots want fonts, which a server need not have.
    config = Criterion::default().without_plots();
    targets = decoders
}
criterion_main!(benches);
