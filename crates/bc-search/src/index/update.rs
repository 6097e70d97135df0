//! Changes rows of recordings whose audio is already in an index: corrected metadata, and paths of files that were moved.
//!
//! The vectors are copied as they are stored, so that nothing is decoded again.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::Result;

use super::change::{Adder, Change, ConflictPolicy, copy_recording};
use super::keys::{Key, short_hash};
use super::rows::Row;

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
    /// The index holds another recording under the new path.
    PathConflict,
    /// The recording is not in the index any more.
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
        let Targets { found, path_owners } = self.targets(updates);
        let replace = self.conflict_policy() == ConflictPolicy::Replace;
        let outcomes = outcomes(updates, &found, &path_owners, replace);
        // By segment, and in each in its order.
        let mut possible: Vec<(&Position, &RowUpdate)> = found
            .iter()
            .zip(updates)
            .zip(&outcomes)
            .filter(|(_, outcome)| **outcome == UpdateOutcome::Updated)
            .filter_map(|((found, update), _)| Some((found.as_ref()?, update)))
            .collect();
        if possible.is_empty() {
            return Ok(outcomes);
        }
        possible.sort_by_key(|(position, _)| *position);
        let mut segments = BTreeMap::new();
        let (mut rows, mut replaced) = (Vec::new(), HashSet::new());
        for (position, update) in possible {
            let (name, number) = position;
            if !segments.contains_key(name) {
                segments.insert(name, change.open_segment(name)?);
            }
            rows.push((position, update.applied_to(&segments[name].row(*number)?)));
            replaced.insert(position.clone());
            // Under `Replace`, a recording whose path another one takes.
            replaced.extend(path_owners.get(&short_hash(&update.row.path)).cloned());
        }
        let extra = rows.iter().flat_map(|(_, row)| row.extra.keys().cloned()).collect();
        let mut writer = change.new_segment(extra)?;
        for ((name, number), row) in rows {
            copy_recording(&mut writer, &segments[name], *number, row)?;
        }
        let entry = writer.commit()?;
        change.remove(&Vec::from_iter(replaced))?;
        change.manifest.segments.push(entry);
        change.commit()?;
        Ok(outcomes)
    }

    /// The recordings that updates are for, and those with their new paths.
    fn targets(&self, updates: &[RowUpdate]) -> Targets {
        let (mut old_paths, mut new_paths) = (HashMap::<u64, Vec<usize>>::new(), HashSet::new());
        for (number, update) in updates.iter().enumerate() {
            old_paths.entry(short_hash(&update.old.path)).or_default().push(number);
            new_paths.insert(short_hash(&update.row.path));
        }
        let contents: Vec<[u8; 16]> =
            updates.iter().map(|update| Key::from_row(&update.row).content).collect();
        let mut targets = Targets { found: vec![None; updates.len()], path_owners: HashMap::new() };
        for (recording, key) in self.known.present() {
            for update in old_paths.get(&key.path).into_iter().flatten() {
                if key.content == contents[*update] {
                    targets.found[*update] = Some(self.known.position(recording));
                }
            }
            if new_paths.contains(&key.path) {
                targets.path_owners.insert(key.path, self.known.position(recording));
            }
        }
        targets
    }
}

/// A recording: name of its segment, and its number in it.
type Position = (String, u32);

/// The recordings that updates concern.
struct Targets {
    /// The recording of each update.
    found: Vec<Option<Position>>,
    /// The recordings that have the updates' new paths now, by the hash of the path.
    path_owners: HashMap<u64, Position>,
}

/// An update is possible if its new path is free, its own, or that of a recording that itself gets another path; to `replace`, also
/// that of any other.
fn outcomes(
    updates: &[RowUpdate],
    found: &[Option<Position>],
    path_owners: &HashMap<u64, Position>,
    replace: bool,
) -> Vec<UpdateOutcome> {
    let mut outcomes: Vec<UpdateOutcome> = found
        .iter()
        .map(|found| if found.is_some() { UpdateOutcome::Updated } else { UpdateOutcome::Gone })
        .collect();
    loop {
        let freed: HashSet<&Position> = updates
            .iter()
            .zip(found)
            .zip(&outcomes)
            .filter(|((update, _), outcome)| {
                **outcome == UpdateOutcome::Updated && update.old.path != update.row.path
            })
            .filter_map(|((_, found), _)| found.as_ref())
            .collect();
        // Of two updates with one path the first counts.
        let mut taken = HashSet::new();
        let mut is_possible = |at: usize| {
            let path = short_hash(&updates[at].row.path);
            let owner = path_owners.get(&path);
            let is_free = owner
                .is_none_or(|owner| replace || found[at].as_ref() == Some(owner) || freed.contains(owner));
            outcomes[at] != UpdateOutcome::Updated || (is_free && taken.insert(path))
        };
        let conflicts: Vec<usize> = (0..updates.len()).filter(|at| !is_possible(*at)).collect();
        if conflicts.is_empty() {
            return outcomes;
        }
        for at in conflicts {
            outcomes[at] = UpdateOutcome::PathConflict;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(old: &str, new: &str) -> RowUpdate {
        let row = |path: &str| Row { path: path.into(), ..Row::default() };
        RowUpdate { old: row(old), row: row(new) }
    }

    #[test]
    fn paths_may_be_swapped_but_not_taken_from_others() {
        let position = |number: u32| ("s".to_owned(), number);
        let owners = |paths: &[(&str, u32)]| -> HashMap<u64, Position> {
            paths.iter().map(|(path, number)| (short_hash(path), position(*number))).collect()
        };
        let found = [Some(position(0)), Some(position(1))];
        let swap = [update("a", "b"), update("b", "a")];
        assert_eq!(
            outcomes(&swap, &found, &owners(&[("a", 0), ("b", 1)]), false),
            [UpdateOutcome::Updated; 2]
        );
        // The second path belongs to a recording that stays, so the first update finds its path taken as well.
        let chain = [update("a", "b"), update("b", "c")];
        assert_eq!(
            outcomes(&chain, &found, &owners(&[("b", 1), ("c", 2)]), false),
            [UpdateOutcome::PathConflict; 2]
        );
        let gone = [found[0].clone(), None];
        let in_place = [update("a", "a"), update("x", "y")];
        assert_eq!(
            outcomes(&in_place, &gone, &owners(&[("a", 0)]), false),
            [UpdateOutcome::Updated, UpdateOutcome::Gone]
        );
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

    #[test]
    fn to_replace_the_path_of_another_recording_may_be_taken() {
        let position = |number: u32| ("s".to_owned(), number);
        let owners = HashMap::from([(short_hash("b"), position(1))]);
        let moved = [update("a", "b")];
        let found = [Some(position(0))];
        assert_eq!(outcomes(&moved, &found, &owners, false), [UpdateOutcome::PathConflict]);
        assert_eq!(outcomes(&moved, &found, &owners, true), [UpdateOutcome::Updated]);
    }
}
