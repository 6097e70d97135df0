//! Which versions belong to a shard (`--shard i/n`).

use bc_cli::Shard;
use bc_formats::fingerprint::Fingerprint;

/// Returns whether the version `id` belongs to `shard`.
pub fn takes(shard: Shard, id: &str) -> bool {
    shard == Shard::WHOLE || number_of(id, shard.count) == shard.index
}

/// Returns the shard of the version `id`, from 0. It depends only on the id: a version stays in its shard when the list grows
/// or is put into another order.
pub fn number_of(id: &str, count: usize) -> usize {
    let digest = Fingerprint::of("part").add(id).finish();
    let number = u64::from_str_radix(&digest, 16).expect("a fingerprint is sixteen hex digits");
    (number % count as u64) as usize
}

/// Returns the file name of a shard's notes: `stem.jsonl` for all versions, `stem-2-of-8.jsonl` for a shard.
pub fn notes_name(stem: &str, shard: Shard) -> String {
    match shard {
        Shard::WHOLE => format!("{stem}.jsonl"),
        Shard { index, count } => format!("{stem}-{}-of-{count}.jsonl", index + 1),
    }
}

/// Returns whether `name` is the file name of the notes of any shard or of all versions.
pub fn is_notes_name(stem: &str, name: &str) -> bool {
    let Some(between) = name.strip_prefix(stem).and_then(|rest| rest.strip_suffix(".jsonl")) else {
        return false;
    };
    let numbers = between.strip_prefix('-').and_then(|between| between.split_once("-of-"));
    between.is_empty()
        || numbers.is_some_and(|(part, count)| [part, count].iter().all(|n| n.parse::<usize>().is_ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_id_belongs_to_one_shard_and_shards_have_similar_sizes() {
        let mut counts = [0; 7];
        for id in 0..7000 {
            let takers: Vec<usize> =
                (0..7).filter(|&index| takes(Shard { index, count: 7 }, &format!("id{id}"))).collect();
            assert_eq!(takers.len(), 1);
            counts[takers[0]] += 1;
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }

    #[test]
    fn notes_are_recognised_by_name() {
        for shard in [Shard::WHOLE, "2/8".parse().unwrap()] {
            assert!(is_notes_name("index.verify", &notes_name("index.verify", shard)));
        }
        for other in
            ["index.verify-x.jsonl", "index.verify.jsonl.tmp", "index2.verify.jsonl", "index.verify-1.jsonl"]
        {
            assert!(!is_notes_name("index.verify", other), "{other}");
        }
    }
}
