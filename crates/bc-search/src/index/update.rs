//! Changes rows of recordings whose audio is already in an index: corrected metadata, and paths of files that were moved.
//!
//! The vectors are copied as they are stored, so that nothing is decoded again.

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;

use super::Recording;
use super::change::{Adder, Change, ConflictPolicy, copy_recording};
use super::keys::{Key, short_hash};
use super::rows::Row;
use super::segment::Segment;

/// A row that takes the place of an old one.
#[derive(Debug, Clone, PartialEq)]
pub struct RowUpdate {
    /// The row as it was when the change was decided.
    pub old: Row,
    /// The new row, with the content hash of the old one.
    pub row: Row,
}

impl RowUpdate {
    /// The new row, given the row that the index has by now: values that this update leaves as they were keep what others have
    /// written since.
    fn applied_to(&self, current: &Row) -> Row {
        let mut row = self.row.clone();
        let texts: [fn(&mut Row) -> &mut String; 5] = [
            |row| &mut row.title,
            |row| &mut row.performer,
            |row| &mut row.work,
            |row| &mut row.isrc,
            |row| &mut row.iswc,
        ];
        let (mut old, mut current) = (self.old.clone(), current.clone());
        for text in texts {
            if text(&mut row) == text(&mut old) {
                text(&mut row).clone_from(text(&mut current));
            }
        }
        for (column, value) in current.extra {
            if row.extra.get(&column) == old.extra.get(&column) {
                row.extra.insert(column, value);
            }
        }
        row
    }
}

/// The outcome of an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateOutcome {
    /// The row was changed.
    Updated,
    /// The row was changed, and the recording that had its new path was removed.
    Replaced,
    /// The index holds this row already, written by another process meanwhile.
    Unchanged,
    /// The index holds another recording under the new path.
    PathConflict,
    /// The recording is not in the index any more, neither under its old path nor under the new one.
    Gone,
}

/// The rows by which an index knows a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KnownRows {
    /// The recording with the file's path.
    pub by_path: Option<Row>,
    /// The recordings with the file's content.
    pub by_content: Vec<Row>,
}

impl Adder {
    /// The rows with the path or the content of each of these keys.
    ///
    /// # Errors
    /// An index that cannot be read.
    pub fn known_rows(&mut self, keys: &[Key]) -> Result<Vec<KnownRows>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        self.known.refresh()?;
        let matches = self.known.matches(keys);
        let recordings = matches.iter().flat_map(|found| found.path.iter().chain(&found.content).copied());
        let rows = self.known.rows(recordings)?;
        let known = matches.into_iter().map(|found| KnownRows {
            by_path: found.path.map(|recording| rows[&recording].clone()),
            by_content: found.content.iter().map(|recording| rows[recording].clone()).collect(),
        });
        Ok(known.collect())
    }

    /// Whether the index has a recording with the path of each of these keys.
    ///
    /// # Errors
    /// An index that cannot be read.
    pub fn has_paths(&mut self, keys: &[Key]) -> Result<Vec<bool>> {
        self.known.refresh()?;
        Ok(self.known.matches(keys).iter().map(|found| found.path.is_some()).collect())
    }

    /// Passes the path of each recording of the index to `take`.
    ///
    /// # Errors
    /// An index that cannot be read.
    pub fn each_path(&mut self, mut take: impl FnMut(&str)) -> Result<()> {
        self.known.refresh()?;
        self.known.each_text(["path"], |[path]| take(path))
    }

    /// Passes the path and the work of each recording of the index to `take`.
    ///
    /// # Errors
    /// An index that cannot be read.
    pub fn each_path_and_work(&mut self, mut take: impl FnMut(&str, &str)) -> Result<()> {
        self.known.refresh()?;
        self.known.each_text(["path", "work"], |[path, work]| take(path, work))
    }

    /// Changes rows in one change; one outcome per update, in order.
    ///
    /// # Errors
    /// Files that cannot be read or written.
    pub fn update(&mut self, updates: &[RowUpdate]) -> Result<Vec<UpdateOutcome>> {
        if updates.is_empty() {
            return Ok(Vec::new());
        }
        let mut change = Change::begin(&self.folder, Some(&self.empty))?;
        // Under the lock, so that nobody can change these rows meanwhile.
        self.known.follow(&change.manifest)?;
        let targets = self.targets(updates);
        let mut outcomes = outcomes(&targets, self.conflict_policy() == ConflictPolicy::Replace);
        let current = self.known.rows(targets.iter().filter_map(|target| target.found))?;
        let (mut rows, mut removed) = (BTreeMap::new(), Vec::new());
        for ((update, target), outcome) in updates.iter().zip(&targets).zip(&mut outcomes) {
            let is_possible = matches!(outcome, UpdateOutcome::Updated | UpdateOutcome::Replaced);
            let Some(recording) = target.found.filter(|_| is_possible) else { continue };
            let row = update.applied_to(&current[&recording]);
            if row == current[&recording] {
                *outcome = UpdateOutcome::Unchanged;
                continue;
            }
            rows.insert(recording, row);
            removed.extend(target.owner.filter(|_| *outcome == UpdateOutcome::Replaced));
        }
        if rows.is_empty() {
            return Ok(outcomes);
        }
        removed.extend(rows.keys().copied());
        let extra = rows.values().flat_map(|row| row.extra.keys().cloned()).collect();
        let mut writer = change.new_segment(extra)?;
        let mut open: Option<(u32, Segment)> = None;
        // By segment, and in each in its order.
        for (recording, row) in rows {
            let segment = match open.take() {
                Some((number, segment)) if number == recording.segment => segment,
                _ => change.open_segment(&self.known.position(recording).0)?,
            };
            copy_recording(&mut writer, &segment, recording.number, row)?;
            open = Some((recording.segment, segment));
        }
        let entry = writer.commit()?;
        change.remove(&self.positions(removed))?;
        change.manifest.segments.push(entry);
        change.commit()?;
        Ok(outcomes)
    }

    /// Removes recordings in one change; returns for each whether it was removed. One that another process has changed meanwhile, so
    /// that the index holds no audio or other audio under its path, is not removed.
    ///
    /// # Errors
    /// Files that cannot be read or written.
    pub fn remove(&mut self, rows: &[Row]) -> Result<Vec<bool>> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let mut change = Change::begin(&self.folder, Some(&self.empty))?;
        self.known.follow(&change.manifest)?;
        let keys: Vec<Key> = rows.iter().map(Key::from_row).collect();
        let found: Vec<Option<Recording>> =
            self.known.matches(&keys).into_iter().map(|found| found.path).collect();
        let current = self.known.rows(found.iter().flatten().copied())?;
        let found: Vec<Option<Recording>> = found
            .into_iter()
            .zip(rows)
            .map(|(found, row)| found.filter(|recording| current[recording].content_hash == row.content_hash))
            .collect();
        if found.iter().any(Option::is_some) {
            change.remove(&self.positions(found.iter().flatten().copied()))?;
            change.commit()?;
        }
        Ok(found.iter().map(Option::is_some).collect())
    }

    /// Names of the recordings' segments, and their numbers in them.
    fn positions(&self, recordings: impl IntoIterator<Item = Recording>) -> Vec<(String, u32)> {
        recordings.into_iter().map(|recording| self.known.position(recording)).collect()
    }

    /// What each update concerns in the index.
    fn targets(&self, updates: &[RowUpdate]) -> Vec<Target> {
        let (mut old_paths, mut new_paths) =
            (HashMap::<u64, Vec<usize>>::new(), HashMap::<u64, Vec<usize>>::new());
        let mut targets = Vec::with_capacity(updates.len());
        for (number, update) in updates.iter().enumerate() {
            let path = short_hash(&update.row.path);
            old_paths.entry(short_hash(&update.old.path)).or_default().push(number);
            new_paths.entry(path).or_default().push(number);
            targets.push(Target { path, ..Target::default() });
        }
        let contents: Vec<[u8; 16]> =
            updates.iter().map(|update| Key::from_row(&update.row).content).collect();
        // Recordings that another process has given the new path already.
        let mut already_moved = vec![None; updates.len()];
        for (recording, key) in self.known.present() {
            for update in old_paths.get(&key.path).into_iter().flatten() {
                if key.content == contents[*update] {
                    targets[*update].found = Some(recording);
                }
            }
            for update in new_paths.get(&key.path).into_iter().flatten() {
                targets[*update].owner = Some(recording);
                if key.has_content(&contents[*update]) {
                    already_moved[*update] = Some(recording);
                }
            }
        }
        for (target, already_moved) in targets.iter_mut().zip(already_moved) {
            target.found = target.found.or(already_moved);
        }
        targets
    }
}

/// What an update concerns in the index.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Target {
    /// The recording to update.
    found: Option<Recording>,
    /// The recording that has the new path now.
    owner: Option<Recording>,
    /// Hash of the new path.
    path: u64,
}

/// An update is possible if its new path is free, its own, or that of a recording that itself gets another path; to `replace`, also
/// that of any other.
fn outcomes(targets: &[Target], replace: bool) -> Vec<UpdateOutcome> {
    let outcome = |target: &Target| {
        if target.found.is_some() { UpdateOutcome::Updated } else { UpdateOutcome::Gone }
    };
    let mut outcomes: Vec<UpdateOutcome> = targets.iter().map(outcome).collect();
    let found = (0..targets.len()).filter(|at| targets[*at].found.is_some());
    let (moves, in_place): (Vec<usize>, Vec<usize>) =
        found.partition(|at| targets[*at].found != targets[*at].owner);
    let moved: HashMap<Recording, usize> =
        moves.iter().filter_map(|at| Some((targets[*at].found?, *at))).collect();
    // Of two updates with one path, that of the recording that has it counts, or else the first.
    let mut taken: HashMap<u64, usize> = HashMap::new();
    let mut conflicts = Vec::new();
    for at in in_place.into_iter().chain(moves.iter().copied()) {
        if *taken.entry(targets[at].path).or_insert(at) != at {
            conflicts.push(at);
        }
    }
    // An update whose new path belongs to a recording that keeps it.
    let expect_replacement = |at: usize, outcomes: &mut [UpdateOutcome], conflicts: &mut Vec<usize>| {
        if !replace {
            conflicts.push(at);
        } else if outcomes[at] == UpdateOutcome::Updated {
            outcomes[at] = UpdateOutcome::Replaced;
        }
    };
    // By recording, the update that waits for its path.
    let mut waiting: HashMap<Recording, usize> = HashMap::new();
    for at in moves {
        match targets[at].owner {
            _ if taken[&targets[at].path] != at => {}
            Some(owner) if moved.contains_key(&owner) => {
                waiting.insert(owner, at);
            }
            Some(_) => expect_replacement(at, &mut outcomes, &mut conflicts),
            None => {}
        }
    }
    // A recording that cannot move keeps its path, which another update may wait for.
    while let Some(at) = conflicts.pop() {
        if outcomes[at] == UpdateOutcome::PathConflict {
            continue;
        }
        outcomes[at] = UpdateOutcome::PathConflict;
        let keeper = targets[at].found.filter(|recording| moved.get(recording) == Some(&at));
        if let Some(next) = keeper.and_then(|recording| waiting.get(&recording)) {
            expect_replacement(*next, &mut outcomes, &mut conflicts);
        }
    }
    outcomes
}

#[cfg(test)]
mod tests {
    use super::super::change::{Addition, remove};
    use super::super::{Manifest, Storage};
    use super::*;

    fn recording(number: u32) -> Option<Recording> {
        Some(Recording { segment: 0, number })
    }

    fn target(found: Option<Recording>, owner: Option<Recording>, path: &str) -> Target {
        Target { found, owner, path: short_hash(path) }
    }

    #[test]
    fn paths_may_be_swapped_but_not_taken_from_others() {
        let swap = [target(recording(0), recording(1), "b"), target(recording(1), recording(0), "a")];
        assert_eq!(outcomes(&swap, false), [UpdateOutcome::Updated; 2]);
        // The second path belongs to a recording that stays, so the first update finds its path taken as well.
        let chain = [target(recording(0), recording(1), "b"), target(recording(1), recording(2), "c")];
        assert_eq!(outcomes(&chain, false), [UpdateOutcome::PathConflict; 2]);
        assert_eq!(outcomes(&chain, true), [UpdateOutcome::Updated, UpdateOutcome::Replaced]);
        let in_place = [target(recording(0), recording(0), "a"), target(None, None, "y")];
        assert_eq!(outcomes(&in_place, false), [UpdateOutcome::Updated, UpdateOutcome::Gone]);
        // Two for one path: that of the recording that has it, or the first.
        let twice = [target(recording(0), recording(1), "b"), target(recording(1), recording(1), "b")];
        assert_eq!(outcomes(&twice, true), [UpdateOutcome::PathConflict, UpdateOutcome::Updated]);
        let twice = [target(recording(0), None, "b"), target(recording(1), None, "b")];
        assert_eq!(outcomes(&twice, false), [UpdateOutcome::Updated, UpdateOutcome::PathConflict]);
    }

    #[test]
    fn a_long_chain_of_renames_is_decided_in_one_pass() {
        // With a pass over all for every conflict, this takes hours.
        let count = 300_000;
        let chain = |last: Option<Recording>| -> Vec<Target> {
            let owner = |at| if at + 1 == count { last } else { recording(at + 1) };
            (0..count).map(|at| target(recording(at), owner(at), &at.to_string())).collect()
        };
        let all = |outcomes: Vec<UpdateOutcome>, one| outcomes.into_iter().all(|outcome| outcome == one);
        assert!(all(outcomes(&chain(None), false), UpdateOutcome::Updated));
        assert!(all(outcomes(&chain(recording(count)), false), UpdateOutcome::PathConflict));
    }

    fn row(path: &str, performer: &str) -> Row {
        let content_hash = format!("{:032x}", 7);
        Row { path: path.into(), performer: performer.into(), content_hash, ..Row::default() }
    }

    #[test]
    fn what_another_process_has_done_already_is_not_done_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index");
        let open = || {
            let empty = Manifest::from_provenance(serde_json::json!({}), [].into(), Storage::F16, 2);
            Adder::open(&path, empty, ConflictPolicy::KeepOld).unwrap()
        };
        let (mut one, mut other) = (open(), open());
        let addition =
            Addition { row: row("/a", ""), parts: vec![(0.0, vec![1.0, 2.0])], windows: Vec::new() };
        one.add(vec![addition]).unwrap();
        let generation = || Manifest::read(&path).unwrap().generation;
        let touched = [RowUpdate { old: row("/a", ""), row: Row { modified_ns: 5, ..row("/a", "") } }];
        assert_eq!(one.update(&touched).unwrap(), [UpdateOutcome::Updated]);
        let before = generation();
        assert_eq!(other.update(&touched).unwrap(), [UpdateOutcome::Unchanged]);
        assert_eq!(generation(), before);
        // The same file, moved: the second finds it at its new path.
        let moved = [RowUpdate { old: row("/a", ""), row: row("/b", "") }];
        assert_eq!(one.update(&moved).unwrap(), [UpdateOutcome::Updated]);
        let before = generation();
        assert_eq!(other.update(&moved).unwrap(), [UpdateOutcome::Unchanged]);
        assert_eq!(generation(), before);
        // There, metadata that only the second gives are written.
        let named = [RowUpdate { old: row("/a", ""), row: row("/b", "Ann") }];
        assert_eq!(other.update(&named).unwrap(), [UpdateOutcome::Updated]);
        assert_eq!(
            other.known_rows(&[Key::from_row(&row("/b", ""))]).unwrap()[0].by_path,
            Some(row("/b", "Ann"))
        );
        // Moved elsewhere, or removed.
        let elsewhere = [RowUpdate { old: row("/a", ""), row: row("/c", "") }];
        assert_eq!(other.update(&elsewhere).unwrap(), [UpdateOutcome::Gone]);
        assert_eq!(other.remove(&[Row { content_hash: "0".repeat(32), ..row("/b", "") }]).unwrap(), [false]);
        assert_eq!(one.known_rows(&[Key::from_row(&row("/b", ""))]).unwrap()[0].by_content.len(), 1);
        remove(&path, |row| row.path == "/b").unwrap();
        assert_eq!(other.update(&moved).unwrap(), [UpdateOutcome::Gone]);
    }

    #[test]
    fn an_update_keeps_what_others_wrote_meanwhile() {
        let row = |title: &str, performer: &str, label: &str| Row {
            title: title.into(),
            performer: performer.into(),
            extra: [("label".to_owned(), label.to_owned())].into(),
            ..Row::default()
        };
        let update = RowUpdate { old: row("t", "", "x"), row: row("new", "", "x") };
        assert_eq!(update.applied_to(&row("t", "Ann", "y")), row("new", "Ann", "y"));
    }
}
