//! The lists of the public ByteCover re-implementation (github.com/Orfium/bytecover).
//!
//! `meta` holds `interim/shs100k.csv` (one row per version: `clique`, `title`, `performer`, `Video ID`, `id`, and
//! where audio comes with the lists a `url`), `interim/versions.csv` (`clique`, and its `versions`
//! as a Python list written as text) and `splits/train_ids.npy`, `val_ids.npy`, `test_ids.npy`.
//! The two tables may also be in `meta` itself.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use bc_formats::config::IndexConfig;
use bc_formats::index::{Split, Version};

use super::list::{Ids, Imported, Importer, read_text, youtube};
use super::npy;
use super::rows::Table;

pub(super) struct Orfium;

impl Importer for Orfium {
    fn import(&self, config: &IndexConfig) -> Result<Imported> {
        let table = |name: &str| {
            let interim = config.meta.join("interim").join(name);
            if interim.exists() { interim } else { config.meta.join(name) }
        };
        let (list, cliques) = (table("shs100k.csv"), table("versions.csv"));
        let mut versions = versions(&list, &read_text(&list)?)?;
        let rows_by_id: HashMap<String, usize> =
            versions.iter().enumerate().map(|(row, version)| (version.version_id.clone(), row)).collect();
        check_cliques(&cliques, &read_text(&cliques)?, &versions, &rows_by_id)?;
        let mut notes = Vec::new();
        let mut split_sources = vec![list.display().to_string(); versions.len()];
        for (name, split) in
            [("train_ids.npy", Split::Train), ("val_ids.npy", Split::Val), ("test_ids.npy", Split::Test)]
        {
            let path = config.meta.join("splits").join(name);
            let ids = npy::read_strings(&path)?;
            notes.push(format!("{}: {} versions", path.display(), ids.len()));
            assign_split(&path, &ids, split, &mut versions, &rows_by_id, &mut split_sources)?;
        }
        Ok(Imported { versions, split_sources, notes })
    }
}

/// Reads the rows of `shs100k.csv`.
pub(super) fn versions(path: &Path, text: &str) -> Result<Vec<Version>> {
    let mut rows = Table::open(path, text.as_bytes())?;
    let (id, clique) = (rows.needed("id", "")?, rows.needed("clique", "")?);
    let [title, performer, video, url] =
        ["title", "performer", "Video ID", "url"].map(|name| rows.column(name));
    let mut ids = Ids::new(path);
    let mut versions = Vec::new();
    rows.each(|row| {
        let (id, clique) = (row.get(Some(id)), row.get(Some(clique)));
        ids.add(id, row.line)?;
        if clique.is_empty() {
            bail!("{}:{}: the clique of {id} is empty", path.display(), row.line);
        }
        let mut version = Version::new(id, clique);
        version.title = row.get(title).to_owned();
        version.performer = row.get(performer).to_owned();
        let url = row.get(url);
        if url.contains("://") {
            version.source_url = Some(url.to_owned());
        } else {
            version.source_url = youtube(row.get(video));
            version.audio_path = Some(url.to_owned()).filter(|path| !path.is_empty());
        }
        versions.push(version);
        Ok(())
    })?;
    if versions.is_empty() {
        bail!("{} has no rows", path.display());
    }
    Ok(versions)
}

/// Checks that `versions.csv` has the same cliques as `shs100k.csv`.
fn check_cliques(
    path: &Path,
    text: &str,
    versions: &[Version],
    rows_by_id: &HashMap<String, usize>,
) -> Result<()> {
    let mut rows = Table::open(path, text.as_bytes())?;
    let (clique, members) = (rows.needed("clique", "")?, rows.needed("versions", "")?);
    let mut ids = Ids::new(path);
    rows.each(|row| {
        let clique = row.get(Some(clique));
        let members = python_strings(row.get(Some(members)))
            .with_context(|| format!("{}:{}: clique {clique}", path.display(), row.line))?;
        for id in members {
            ids.add(&id, row.line)?;
            let Some(&listed) = rows_by_id.get(&id) else {
                bail!("{}:{}: id {id} of clique {clique} is not in shs100k.csv", path.display(), row.line);
            };
            let other = &versions[listed].clique_id;
            if other != clique {
                bail!(
                    "{}:{}: id {id} is of clique {clique} here and of {other} in shs100k.csv",
                    path.display(),
                    row.line
                );
            }
        }
        Ok(())
    })?;
    if let Some(missing) = versions.iter().find(|version| !ids.contains(&version.version_id)) {
        bail!("{}: id {} of shs100k.csv is in no clique here", path.display(), missing.version_id);
    }
    Ok(())
}

/// Puts the versions with these ids into `split`, and records the file that lists them.
fn assign_split(
    path: &Path,
    ids: &[String],
    split: Split,
    versions: &mut [Version],
    rows_by_id: &HashMap<String, usize>,
    split_sources: &mut [String],
) -> Result<()> {
    for (element, id) in ids.iter().enumerate() {
        let Some(&row) = rows_by_id.get(id) else {
            bail!("{}: element {element}: id `{id}` is not in shs100k.csv", path.display());
        };
        let version = &mut versions[row];
        if version.split != Split::None {
            bail!("{}: element {element}: id `{id}` is already in {}", path.display(), version.split);
        }
        version.split = split;
        split_sources[row] = format!("{}: element {element}", path.display());
    }
    Ok(())
}

/// Parses a Python list of strings, such as `['a', "b's"]`.
fn python_strings(text: &str) -> Result<Vec<String>> {
    let inside = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let mut characters = inside.context("the versions are not a Python list ['…', …]")?.chars().peekable();
    let mut strings = Vec::new();
    loop {
        while characters.next_if(|c| c.is_whitespace()).is_some() {}
        let Some(quote) = characters.next() else { return Ok(strings) };
        if quote != '\'' && quote != '"' {
            bail!("`{quote}` where a quote should open string {}", strings.len() + 1);
        }
        let mut string = String::new();
        loop {
            match characters.next().context("a string that does not end")? {
                '\\' => match characters.next() {
                    Some(c @ ('\\' | '\'' | '"')) => string.push(c),
                    _ => bail!("an escape in string {} that ids do not have", strings.len() + 1),
                },
                c if c == quote => break,
                c => string.push(c),
            }
        }
        strings.push(string);
        while characters.next_if(|c| c.is_whitespace()).is_some() {}
        match characters.next() {
            None => return Ok(strings),
            Some(',') => {}
            Some(other) => bail!("`{other}` where a comma should follow string {}", strings.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::importers::mutate::never_panics_on_mutations;

    #[test]
    fn python_lists_of_strings_are_parsed_like_python() {
        assert_eq!(python_strings("['a', \"b's\", 'c\\'d']").unwrap(), ["a", "b's", "c'd"]);
        assert_eq!(python_strings("['a',]").unwrap(), ["a"]);
        assert!(python_strings("[]").unwrap().is_empty());
        for broken in ["", "'a'", "['a' 'b']", "['a", "[a]", "['\\x41']", "[,]"] {
            assert!(python_strings(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn mutated_tables_never_panic() {
        let list = "clique,version,title,performer,Video ID,status,id\n0,0,下雨了,Ann,IAa9tvus61z,True,a-1\n";
        never_panics_on_mutations(100_000, list.as_bytes(), |bytes| {
            if let Ok(text) = std::str::from_utf8(bytes) {
                drop(versions(Path::new("shs100k.csv"), text));
            }
        });
        let known = versions(Path::new("shs100k.csv"), list).unwrap();
        let rows_by_id = HashMap::from([("a-1".to_owned(), 0)]);
        never_panics_on_mutations(100_000, b"clique,versions\n0,\"['a-1']\"\n", |bytes| {
            if let Ok(text) = std::str::from_utf8(bytes) {
                drop(check_cliques(Path::new("versions.csv"), text, &known, &rows_by_id));
            }
        });
    }
}
