//! Connections: a limited number, with a time limit for their headers, and answered to the end when the server stops.

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

use super::state::State;

/// Connections, at most; fewer where the system allows fewer files.
const MOST: usize = 4096;
/// Connections beyond [`MOST`] that are refused in words at the same time; any more are closed.
const MOST_REFUSED: usize = 256;
/// A connection's headers come within this; so do those of its next request.
const HEADERS: Duration = Duration::from_secs(10);
/// Time limit for answers in progress when the server stops.
const GRACE: Duration = Duration::from_secs(60);
/// How often the server looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(100);
/// Bytes of a request's headers.
const HEADER_BYTES: usize = 32 << 10;

/// Answers until an interrupt.
///
/// # Errors
/// A socket that accepts no more.
pub async fn serve(listener: TcpListener, router: Router, state: Arc<State>) -> Result<()> {
    // A client that goes away while it is written to is no reason to end, which is what the system does by default; the
    // command line, where it is right, has asked for that.
    let _pipe = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::pipe())
        .context("cannot ignore closed connections")?;
    let connections = Arc::new(Semaphore::new(most_connections()));
    let told = Arc::new(Semaphore::new(MOST_REFUSED));
    let (stop, stopping) = watch::channel(false);
    while !bc_cli::interrupt::requested() {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = tokio::time::sleep(LOOK) => continue,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of files, or a client that is gone already.
                tracing::warn!("a connection was not accepted: {error}");
                tokio::time::sleep(LOOK).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        match connections.clone().try_acquire_owned() {
            Ok(place) => {
                let (router, state, stopping) = (router.clone(), state.clone(), stopping.clone());
                tokio::spawn(async move {
                    state.metrics.connections.inc();
                    connection(stream, router, stopping).await;
                    state.metrics.connections.dec();
                    drop(place);
                });
            }
            Err(_) => {
                if let Ok(place) = told.clone().try_acquire_owned() {
                    tokio::spawn(async move {
                        refuse(stream, "503 Service Unavailable", "the server has too many connections")
                            .await;
                        drop(place);
                    });
                }
            }
        }
    }
    drop((listener, stopping));
    stop.send_replace(true);
    let finished = tokio::time::timeout(GRACE, stop.closed()).await;
    if finished.is_err() {
        tracing::warn!("some requests were not answered within {} s and are given up", GRACE.as_secs());
    }
    Ok(())
}

/// As many as files may be open: each may bring one, and write another.
fn most_connections() -> usize {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum.map(|most| most.min(16 * 1024)).or(limit.current);
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    files.map_or(MOST, |files| MOST.min(usize::try_from(files / 3).unwrap_or(MOST)))
}

/// Answers the requests of one connection. `stopping` is dropped at its end.
async fn connection(stream: TcpStream, router: Router, mut stopping: watch::Receiver<bool>) {
    let served = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let service = TowerToHyperService::new(router.layer(axum::middleware::from_fn({
        let served = served.clone();
        move |request, next: axum::middleware::Next| {
            served.store(true, std::sync::atomic::Ordering::Relaxed);
            next.run(request)
        }
    })));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADERS).max_buf_size(HEADER_BYTES);
    let mut connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut asked_to_stop = *stopping.borrow();
    let ended = loop {
        let mut ended = pin!(std::future::poll_fn(|context| connection.poll_without_shutdown(context)));
        if asked_to_stop {
            break ended.await;
        }
        tokio::select! {
            ended = &mut ended => break ended,
            _ = stopping.changed() => {}
        }
        asked_to_stop = true;
        Pin::new(&mut connection).graceful_shutdown();
    };
    let mut stream = connection.into_parts().io.into_inner();
    match ended {
        // A client that sent no request in time gets an answer; one that was answered before needs none.
        Err(error) if error.is_timeout() && !served.load(std::sync::atomic::Ordering::Relaxed) => {
            refuse(stream, "408 Request Timeout", "the request's headers came too slowly").await;
        }
        _ => {
            let _ = stream.shutdown().await;
        }
    }
}

/// Says why before the connection is closed, and waits until that can have been read.
async fn refuse(mut stream: TcpStream, status: &str, why: &str) {
    let body = serde_json::json!({ "error": why, "retry_after_s": 5 }).to_string();
    let text = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nretry-after: 5\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let said = async {
        stream.write_all(text.as_bytes()).await?;
        stream.shutdown().await?;
        // Bytes that nobody reads would close the connection before the answer is read.
        let mut rest = [0u8; 4096];
        while stream.read(&mut rest).await? > 0 {}
        Ok::<(), std::io::Error>(())
    };
    let _ = tokio::time::timeout(Duration::from_secs(2), said).await;
}
