//! The HTTP server: JSON answers, and one web page.
//!
//! **In**: an index and its network, and requests with audio files. **Out**: ranked works, comparisons with their alignments,
//! additions, the audio of indexed recordings.
//!
//! The path of a request: [`listen`] accepts the connection and limits the time for its headers, [`sending`] the time for which its
//! client may not read; [`guard`] checks its origin;
//! [`upload`] writes its files to a temporary folder, within limits of size and time; [`queue`] lets as many requests compute as
//! there are workers and refuses more than may wait; [`feature_cache`] decodes with limits; [`routes`] calls the
//! [`crate::answer::Searcher`]. Errors are JSON with a text ([`api_error`]) and, if a retry can help, a retry time.

mod answers;
mod api_error;
mod feature_cache;
mod guard;
mod listen;
mod metrics;
mod options;
mod picture;
mod queue;
mod routes;
mod sending;
mod state;
mod upload;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use bc_formats::config::Config;

pub use options::{Options, Token};
pub use routes::description;

/// Serves the index at `path` until an interrupt; requests in progress are finished.
///
/// # Errors
/// Options that make no sense; an index or network that cannot be opened; an address that is in use.
pub fn run(config: &Config, path: &Path, options: Options) -> Result<()> {
    options.require_valid()?;
    bc_cli::interrupt::install("stopping after the requests in progress (interrupt again to stop at once)")?;
    let listen = options.listen;
    let state = Arc::new(state::State::open(config, path, options)?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let served = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(listen)
            .await
            .with_context(|| format!("cannot listen on {listen}; name another address with --listen"))?;
        let address = listener.local_addr()?;
        bc_cli::println!(
            "bc-search: {} recordings of {} on http://{address} (Ctrl-C stops)",
            state.searcher().index.len(),
            path.display()
        );
        tokio::spawn(state::follow(state.clone()));
        listen::serve(listener, routes::router(&state, address), state.clone()).await
    });
    // The tasks that share the state may outlive this function, because it does not wait for a decoder that hangs.
    runtime.shutdown_background();
    state.spool.remove();
    served
}
