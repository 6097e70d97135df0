//! Divides the work into shards: `--shard i/n`, or `--shard slurm` for the index in a Slurm job array.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail, ensure};

/// One shard of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Index of the shard, from 0.
    pub index: usize,
    /// Number of shards.
    pub count: usize,
}

impl Shard {
    /// The shard that is the whole work.
    pub const WHOLE: Self = Self { index: 0, count: 1 };

    /// Returns whether item number `item` of a list that is distributed round-robin belongs to this shard.
    pub fn takes(&self, item: usize) -> bool {
        item % self.count == self.index
    }

    /// Returns those items of a list that belong to this shard, if the list is distributed round-robin.
    pub fn of<T>(&self, items: Vec<T>) -> Vec<T> {
        let own = items.into_iter().enumerate().filter(|(item, _)| self.takes(*item));
        own.map(|(_, item)| item).collect()
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index + 1, self.count)
    }
}

impl FromStr for Shard {
    type Err = anyhow::Error;

    /// Parses `i/n` with i from 1 to n.
    fn from_str(text: &str) -> Result<Self> {
        let parse = || -> Option<(usize, usize)> {
            let (index, count) = text.split_once('/')?;
            Some((index.trim().parse().ok()?, count.trim().parse().ok()?))
        };
        let Some((index, count)) = parse() else {
            bail!("`{text}` is not of the form i/n, such as 1/8");
        };
        ensure!(count >= 1 && (1..=count).contains(&index), "in `{text}`, i must be from 1 to n");
        Ok(Self { index: index - 1, count })
    }
}

/// The value of `--shard`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardChoice {
    /// The given shard.
    Part(Shard),
    /// The shard that the environment variables of a Slurm job array name (SLURM_ARRAY_TASK_ID and others).
    Slurm,
}

impl FromStr for ShardChoice {
    type Err = anyhow::Error;

    /// Parses `i/n` or `slurm`.
    fn from_str(text: &str) -> Result<Self> {
        if text == "slurm" {
            return Ok(Self::Slurm);
        }
        // One sentence, since clap prints the outermost error only.
        text.parse()
            .map(Self::Part)
            .map_err(|error| anyhow!("{error} (or give `slurm` for the index in a Slurm job array)"))
    }
}

/// `--shard i/n` or `--shard slurm`.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct ShardArgs {
    /// Do only part i of n (from 1); `slurm` takes the part from the index in a Slurm job array
    /// (SLURM_ARRAY_TASK_ID, _MIN and _MAX or _COUNT).
    #[arg(long, value_name = "I/N|slurm")]
    pub shard: Option<ShardChoice>,
}

impl ShardArgs {
    /// Returns the requested shard, or the whole work without `--shard`. In a job array without `--shard`, a warning that the whole
    /// work is done is printed to standard error.
    ///
    /// # Errors
    /// `--shard slurm` outside of a job array, or in one with gaps.
    pub fn resolve(&self) -> Result<Shard> {
        let get = |name: &str| std::env::var(name).ok();
        match self.shard {
            Some(ShardChoice::Part(shard)) => Ok(shard),
            Some(ShardChoice::Slurm) => from_slurm(get),
            None => {
                if get(TASK_VARIABLE).is_some() {
                    crate::eprintln!(
                        "note: {TASK_VARIABLE} is set but --shard is not: doing the whole work; give --shard slurm"
                    );
                }
                Ok(Shard::WHOLE)
            }
        }
    }
}

/// Options of the `status` commands, which report how much of the work is done: `--shards N --json`.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct StatusArgs {
    /// Shards that the index is divided into.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub shards: u16,
    /// Print one JSON object, with a line per shard.
    #[arg(long)]
    pub json: bool,
}

/// Formats items as a JSON array with one line per item, so that line-based programs can read it too.
///
/// # Errors
/// An item that cannot be written as JSON.
pub fn json_lines<T: serde::Serialize>(items: &[T]) -> Result<String> {
    let lines: Result<Vec<String>, _> = items.iter().map(serde_json::to_string).collect();
    Ok(format!("[\n{}\n]", lines?.join(",\n")))
}

const TASK_VARIABLE: &str = "SLURM_ARRAY_TASK_ID";

fn from_slurm(get: impl Fn(&str) -> Option<String>) -> Result<Shard> {
    let number = |name: &str| -> Result<Option<usize>> {
        get(name)
            .map(|text| text.parse().with_context(|| format!("{name} is `{text}`, not a number")))
            .transpose()
    };
    let Some(task) = number(TASK_VARIABLE)? else {
        bail!(
            "--shard slurm needs a Slurm job array, but {TASK_VARIABLE} is not set; submit with --array, or give --shard i/n"
        )
    };
    let first = number("SLURM_ARRAY_TASK_MIN")?.unwrap_or(0);
    let last = number("SLURM_ARRAY_TASK_MAX")?;
    let count = match (last, number("SLURM_ARRAY_TASK_COUNT")?) {
        (Some(last), count) => {
            let range =
                last.checked_sub(first).and_then(|steps| steps.checked_add(1)).with_context(|| {
                    format!("the Slurm array from {first} (SLURM_ARRAY_TASK_MIN) to {last} (_MAX) is none")
                })?;
            if let Some(count) = count {
                ensure!(
                    count == range,
                    "the Slurm array has gaps ({count} tasks between {first} and {last}), so parts would be left \
                     out; submit a full range such as --array=0-{}, or give --shard i/n",
                    count.saturating_sub(1)
                );
            }
            range
        }
        (None, Some(count)) => count,
        (None, None) => {
            bail!("{TASK_VARIABLE} is set, but neither SLURM_ARRAY_TASK_MAX nor _COUNT; give --shard i/n")
        }
    };
    let index = task.checked_sub(first).filter(|index| *index < count);
    let index = index
        .with_context(|| format!("{TASK_VARIABLE} is {task}, outside its array of {count} from {first}"))?;
    Ok(Shard { index, count })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_written_from_one_and_stored_from_zero() {
        let shard: Shard = "3/7".parse().unwrap();
        assert_eq!(shard, Shard { index: 2, count: 7 });
        assert_eq!(shard.to_string(), "3/7");
        for wrong in ["0/7", "8/7", "a/7", "7", "1/0", ""] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn shard_is_given_as_i_of_n_or_slurm() {
        assert_eq!("slurm".parse::<ShardChoice>().unwrap(), ShardChoice::Slurm);
        let part = ShardChoice::Part(Shard { index: 0, count: 2 });
        assert_eq!("1/2".parse::<ShardChoice>().unwrap(), part);
        let error = "Slurm".parse::<ShardChoice>().unwrap_err().to_string();
        assert!(error.contains("`slurm`") && error.contains("not of the form i/n"), "{error}");
    }

    #[test]
    fn json_lines_has_one_line_per_item() {
        assert_eq!(json_lines(&[1, 2]).unwrap(), "[\n1,\n2\n]");
    }

    #[test]
    fn every_item_belongs_to_exactly_one_part() {
        for item in 0..100 {
            let takers = (0..7).filter(|&index| Shard { index, count: 7 }.takes(item)).count();
            assert_eq!(takers, 1);
        }
    }

    #[test]
    fn slurm_array_variables_give_the_shard() {
        let slurm = |pairs: &'static [(&str, &str)]| {
            from_slurm(move |name| {
                pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string())
            })
        };
        assert!(slurm(&[]).unwrap_err().to_string().contains("needs a Slurm job array"));
        let task =
            &[("SLURM_ARRAY_TASK_ID", "3"), ("SLURM_ARRAY_TASK_MIN", "1"), ("SLURM_ARRAY_TASK_MAX", "4")];
        assert_eq!(slurm(task).unwrap(), Shard { index: 2, count: 4 });
        let gaps = &[
            ("SLURM_ARRAY_TASK_ID", "2"),
            ("SLURM_ARRAY_TASK_MIN", "0"),
            ("SLURM_ARRAY_TASK_MAX", "4"),
            ("SLURM_ARRAY_TASK_COUNT", "3"),
        ];
        assert!(slurm(gaps).unwrap_err().to_string().contains("gaps"));
        assert!(slurm(&[("SLURM_ARRAY_TASK_ID", "2")]).is_err());
        for [min, max] in [["0", "18446744073709551615"], ["5", "4"]] {
            let wrong = move |name: &str| match name {
                "SLURM_ARRAY_TASK_ID" => Some("0".to_owned()),
                "SLURM_ARRAY_TASK_MIN" => Some(min.to_owned()),
                "SLURM_ARRAY_TASK_MAX" => Some(max.to_owned()),
                _ => None,
            };
            let error = from_slurm(wrong).unwrap_err().to_string();
            assert!(error.contains(max) && error.contains("is none"), "{error}");
        }
    }
}
