//! Aligns the works of an answer with its query.

use std::path::Path;

use anyhow::{Context, Result, anyhow};

use super::{Answer, Searcher};
use crate::aligned::{Aligned, ChromaSources, align};

impl Searcher {
    /// Aligns the first `count` works of each answer with its query, an audio file or a recording of the index.
    ///
    /// # Errors
    /// The network cannot be opened. If a work cannot be aligned, the reason is stored with that work.
    pub fn align(&self, answers: &mut [Answer], count: usize) -> Result<()> {
        // Shared by all: it reads the rows of the stored features only once.
        let sources = ChromaSources::new(self.audio()?, self.features_folder());
        answers.iter_mut().try_for_each(|answer| self.align_one(&sources, answer, count))
    }

    fn align_one(&self, sources: &ChromaSources<'_>, answer: &mut Answer, count: usize) -> Result<()> {
        let query = Path::new(&answer.query);
        let query = if query.is_file() {
            sources.of_file(query)
        } else {
            let recording = self.index.of_path(&answer.query)?;
            let row = recording.map(|recording| self.index.row(recording)).transpose()?;
            sources.of_row(&row.context("the query is neither a file nor a recording of the index")?)
        };
        for hit in answer.hits.iter_mut().take(count) {
            let aligned = match &query {
                Ok(query) => sources.of_row(&hit.row).and_then(|other| align(query, &other)),
                Err(error) => Err(anyhow!("the query: {}", bc_cli::describe(error))),
            };
            hit.alignment = Some(Aligned::from_result(aligned));
        }
        Ok(())
    }
}
