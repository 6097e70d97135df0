//! Command-line arguments that several stages have in common.

use std::path::PathBuf;

use anyhow::{Context, Result};
use bc_formats::config::{self, Config};

/// Arguments for the configuration: `--config FILE`, `--set section.key=value`, `--print-config`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ConfigArgs {
    /// The experiment's TOML file; without it every key has its default (the demo).
    /// Relative paths in it are relative to the working directory.
    #[arg(long, short, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Override a key of the configuration; may be given several times.
    #[arg(long = "set", global = true, value_name = "SECTION.KEY=VALUE")]
    pub overrides: Vec<String>,
    /// Print the resolved configuration with a comment for each key, and end.
    #[arg(long, global = true)]
    pub print_config: bool,
}

impl ConfigArgs {
    /// Returns the resolved configuration; with `--print-config`, prints it and returns `None`.
    pub fn load(&self) -> Result<Option<Config>> {
        let config = self.resolve()?;
        if self.print_config {
            crate::print!("{}", config.to_commented_toml());
            return Ok(None);
        }
        Ok(Some(config))
    }

    /// Returns the resolved configuration.
    pub fn resolve(&self) -> Result<Config> {
        config::load(self.config.as_deref(), &self.overrides)
    }
}

/// The argument for the number of threads: `--threads N`.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct ThreadArgs {
    /// Worker threads; all cores if not given.
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub threads: Option<u32>,
}

impl ThreadArgs {
    /// Sets up the global thread pool; must be called once, before any parallel work.
    pub fn install(&self) -> Result<()> {
        let mut pool = rayon::ThreadPoolBuilder::new();
        if let Some(threads) = self.threads {
            pool = pool.num_threads(threads as usize);
        }
        pool.build_global().context("cannot start the worker threads")
    }
}
