//! A server beside the command line: HTTP with JSON, and one page to listen on.
//!
//! **In**: an index and its network, and requests with audio files. **Out**: ranked works, comparisons with their alignments,
//! additions, the audio of indexed recordings.
//!
//! A request's way: [`listen`] accepts the connection and gives it time for its headers; [`guard`] looks at where it comes from;
//! [`upload`] writes its files to a temporary folder, as fast and as much as is allowed; [`queue`] lets as many requests work as
//! there are cores and refuses more than may wait; [`feature_cache`] decodes with limits; [`routes`] asks the
//! [`crate::answer::Searcher`]. Whatever is refused is refused in words ([`refusal`]), with the time to come again where there is one.

mod answers;
mod feature_cache;
mod guard;
mod listen;
mod metrics;
mod options;
mod picture;
mod queue;
mod refusal;
mod routes;
mod state;
mod upload;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use bc_formats::config::Config;

pub use options::{Options, Token};
pub use routes::description;

/// Serves the index at `path` until an interrupt; requests that are being answered are finished.
///
/// # Errors
/// An index or network that cannot be opened; an address that is taken.
pub fn run(config: &Config, path: &Path, options: Options) -> Result<()> {
    bc_cli::interrupt::install("stopping; what is being answered is finished (once more: at once)")?;
    let listen = options.listen;
    let state = Arc::new(state::State::open(config, path, options)?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start threads")?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(listen)
            .await
            .with_context(|| format!("cannot listen on {listen}; name another address with --listen"))?;
        let address = listener.local_addr()?;
        println!(
            "bc-search: {} recordings of {} on http://{address} (Ctrl-C stops)",
            state.searcher().index.len(),
            path.display()
        );
        std::io::stdout().flush()?;
        tokio::spawn(state::follow(state.clone()));
        listen::serve(listener, routes::router(&state, address), state.clone()).await
    })?;
    // A decoder that hangs is left behind.
    runtime.shutdown_background();
    Ok(())
}
