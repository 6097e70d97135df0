//! Serves a limited number of connections, with time limits for headers and for clients that do not read, and finishes requests
//! when the server stops.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::sending::ImpatientStream;
use super::state::State;

/// Maximum number of connections; lower if the system allows fewer open files.
const MAX_CONNECTIONS: usize = 4096;
/// Maximum number of further connections that get an error response at the same time; any more are closed.
const MAX_REFUSALS: usize = 256;
/// Time limit for the headers of each request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time for which a client may read nothing of its answer. Browsers pause a recording that they have buffered far ahead; they
/// then request the rest as a range.
const MAX_READ_PAUSE: Duration = Duration::from_secs(30);
/// Time limit for answers in progress when the server stops.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(60);
/// Interval at which the server checks whether it should stop.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Maximum size of a request's headers in bytes.
const MAX_HEADER_BYTES: usize = 32 << 10;

/// Answers requests until an interrupt.
///
/// # Errors
/// The socket fails.
pub async fn serve(listener: TcpListener, router: Router, state: Arc<State>) -> Result<()> {
    // Writing to a closed connection must not end the server. The command line has restored the default action of SIGPIPE,
    // which does that.
    let _pipe = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::pipe())
        .context("cannot ignore closed connections")?;
    let connections = Arc::new(Semaphore::new(max_connections()));
    let refusal_slots = Arc::new(Semaphore::new(MAX_REFUSALS));
    let (stop, stopping) = watch::channel(false);
    while !bc_cli::interrupt::requested() {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = tokio::time::sleep(POLL_INTERVAL) => continue,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Too many open files, or a client that has already disconnected.
                tracing::warn!("a connection was not accepted: {error}");
                tokio::time::sleep(POLL_INTERVAL).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        match connections.clone().try_acquire_owned() {
            Ok(slot) => {
                let (router, state, stopping) = (router.clone(), state.clone(), stopping.clone());
                tokio::spawn(async move {
                    state.metrics.connections.inc();
                    connection(stream, router, stopping, MAX_READ_PAUSE).await;
                    state.metrics.connections.dec();
                    drop(slot);
                });
            }
            Err(_) => {
                if let Ok(slot) = refusal_slots.clone().try_acquire_owned() {
                    tokio::spawn(async move {
                        refuse(stream, "503 Service Unavailable", "the server has too many connections")
                            .await;
                        drop(slot);
                    });
                }
            }
        }
    }
    drop((listener, stopping));
    stop.send_replace(true);
    let finished = tokio::time::timeout(SHUTDOWN_TIMEOUT, stop.closed()).await;
    if finished.is_err() {
        tracing::warn!(
            "some requests were not answered within {} s and are aborted",
            SHUTDOWN_TIMEOUT.as_secs()
        );
    }
    Ok(())
}

/// Raises the limit of open files; returns the number of connections that it allows, because each may need a socket and files.
fn max_connections() -> usize {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum.map(|maximum| maximum.min(16 * 1024)).or(limit.current);
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    files.map_or(MAX_CONNECTIONS, |files| {
        MAX_CONNECTIONS.min(usize::try_from(files / 3).unwrap_or(MAX_CONNECTIONS))
    })
}

/// Answers the requests of one connection, until its client reads nothing for `max_read_pause`; `stopping` is dropped at its end.
async fn connection(
    stream: TcpStream,
    router: Router,
    mut stopping: watch::Receiver<bool>,
    max_read_pause: Duration,
) {
    let served = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let service = TowerToHyperService::new(router.layer(axum::middleware::from_fn({
        let served = served.clone();
        move |request, next: axum::middleware::Next| {
            served.store(true, std::sync::atomic::Ordering::Relaxed);
            next.run(request)
        }
    })));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(MAX_HEADER_BYTES);
    let stream = TokioIo::new(ImpatientStream::new(stream, max_read_pause));
    let mut connection = builder.serve_connection(stream, service);
    let mut is_stopping = *stopping.borrow();
    let ended = loop {
        let mut ended = pin!(std::future::poll_fn(|context| connection.poll_without_shutdown(context)));
        if is_stopping {
            break ended.await;
        }
        tokio::select! {
            ended = &mut ended => break ended,
            _ = stopping.changed() => {}
        }
        is_stopping = true;
        Pin::new(&mut connection).graceful_shutdown();
    };
    let mut stream = connection.into_parts().io.into_inner().into_inner();
    match ended {
        // A client that sent no request in time gets an error response, unless it has been answered before.
        Err(error) if error.is_timeout() && !served.load(std::sync::atomic::Ordering::Relaxed) => {
            refuse(stream, "408 Request Timeout", "the request's headers arrived too slowly").await;
        }
        _ => {
            let _ = stream.shutdown().await;
        }
    }
}

/// Sends an error response before the connection is closed, and waits until the client can have read it.
async fn refuse(mut stream: TcpStream, status: &str, why: &str) {
    let body = serde_json::json!({ "error": why, "retry_after_s": 5 }).to_string();
    let text = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nretry-after: 5\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let sent = async {
        stream.write_all(text.as_bytes()).await?;
        stream.shutdown().await?;
        // Unread bytes would reset the connection before the client reads the answer.
        let mut rest = [0u8; 4096];
        while stream.read(&mut rest).await? > 0 {}
        Ok::<(), std::io::Error>(())
    };
    let _ = tokio::time::timeout(Duration::from_secs(2), sent).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn client_that_does_not_read_is_disconnected() {
        let large = vec![7u8; 64 << 20];
        let router = Router::new().route("/", axum::routing::get(|| async move { large }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let (_stop, stopping) = watch::channel(false);
        let served = tokio::spawn(connection(stream, router, stopping, Duration::from_millis(300)));
        client.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        // The client keeps the connection open and reads nothing.
        tokio::time::timeout(Duration::from_secs(20), served).await.unwrap().unwrap();
        let mut rest = Vec::new();
        let _ = client.read_to_end(&mut rest).await;
        assert!(rest.starts_with(b"HTTP/1.1 200") && rest.len() < 64 << 20, "{} bytes", rest.len());
    }
}
