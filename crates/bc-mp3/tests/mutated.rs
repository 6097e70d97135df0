//! Damaged streams are decoded or refused, and pass the checks for arbitrary bytes.

mod support;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_streams_never_panic(
        file in 0usize..11,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..200),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = std::fs::read(&support::fixtures()[file]).unwrap();
        for (position, byte) in changes {
            let position = position.index(bytes.len());
            bytes[position] = byte;
        }
        bytes.drain(..cut.index(bytes.len()) / 4);
        support::check::check(&bytes);
    }
}

/// Seeds of the fuzzer and inputs that it found (`fuzz/README.md`).
#[test]
fn fuzzer_corpus_and_findings_pass() {
    let fuzz = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let mut count = 0;
    for folder in ["corpus/mp3", "regressions/mp3"] {
        let entries = std::fs::read_dir(fuzz.join(folder)).unwrap();
        for path in entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
            println!("{}", path.display());
            support::check::check(&std::fs::read(&path).unwrap());
            count += 1;
        }
    }
    assert!(count >= 8, "{count} files");
}
