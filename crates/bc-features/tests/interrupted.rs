//! Killed runs, and a disk that fills up: nothing is lost, doubled, or half there.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bc_formats::features::FeatureSet;
use support::{Scratch, text};

/// Kills a run `kills` times (SIGKILL) at moments spread over its length, then lets it finish.
fn killed(kills: u32) {
    let scratch = Scratch::with_tones(&[4.0; 12]);
    // Said to last three hours each: a part ends after two of them.
    scratch.repeat(10, 3.0 * 3600.0);
    let begun = Instant::now();
    scratch.extract("whole", &[]);
    let whole = begun.elapsed();
    let (mut hit, mut most, mut state) = (0, 0, 1u64);
    for _ in 0..kills {
        let mut child =
            scratch.command("killed", &[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let share = (state >> 40) as f64 / (1u64 << 24) as f64;
        // Runs begin where the last one ended, so each is to live a few `kills`-ths of a whole one.
        std::thread::sleep(Duration::from_millis(15) + whole.mul_f64(4.0 * share / f64::from(kills)));
        child.kill().unwrap();
        hit += u32::from(!child.wait().unwrap().success());
        // What is there so far is whole.
        if let Some(set) = FeatureSet::open_if_any(&scratch.path("killed")).unwrap() {
            set.for_each(|_| Ok(())).unwrap();
            assert!(set.rows.len() >= most, "rows were lost");
            most = set.rows.len();
        }
    }
    println!("{hit} of {kills} runs were killed at work; {most} of 120 rows were there before the last run");
    assert!(hit > 0);
    scratch.extract("killed", &[]);
    assert_eq!(scratch.rows("whole"), scratch.rows("killed"));
    let hidden = std::fs::read_dir(scratch.path("killed"))
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|end| end == "tmp"))
        .count();
    assert_eq!(hidden, 0, "temporary files of killed runs are left");
}

#[test]
fn killed_now_and_then_it_resumes_to_the_same_rows() {
    killed(6);
}

#[test]
#[ignore = "twenty kills; cargo test --release -p bc-features --test interrupted -- --ignored"]
fn killed_at_twenty_moments_it_resumes_to_the_same_rows() {
    killed(20);
}

/// A file system of its own, unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(path: &Path, options: &str) -> Option<Self> {
        std::fs::create_dir_all(path).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(path).output().ok()?;
        mounted.status.success().then(|| Self(path.to_owned()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_one_clear_error_and_no_part_that_a_reader_believes() {
    let scratch = Scratch::with_tones(&[30.0; 4]);
    scratch.repeat(6, 3.0 * 3600.0);
    let Some(disk) = Disk::mount(&scratch.path("small"), "size=48k") else {
        bc_testing::skip!("a small tmpfs cannot be mounted here (it takes root)");
    };
    let output = scratch.command("small", &[]).output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for word in ["part-0", "No space left", "free space there", "run the same command again"] {
        assert!(said.contains(word), "no `{word}` in {said}");
    }
    assert_eq!(said.matches("error:").count(), 1, "{said}");
    let stored = FeatureSet::open_if_any(&disk.0).unwrap().map_or(0, |set| {
        set.for_each(|_| Ok(())).unwrap();
        set.rows.len()
    });
    assert!(stored < 24, "the disk was not small enough to fill");
    let larger = Command::new("mount").args(["-o", "remount,size=16m"]).arg(&disk.0).status().unwrap();
    assert!(larger.success());
    scratch.extract("small", &[]);
    scratch.extract("whole", &[]);
    assert_eq!(scratch.rows("small"), scratch.rows("whole"));
}
