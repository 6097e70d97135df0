//! A connection that fails when its client does not read for a while. Otherwise clients that request large answers and never read
//! them would hold all connections, for ever.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// A stream whose writes fail when the other side has taken no byte for some time.
pub struct ImpatientStream<S> {
    stream: S,
    max_pause: Duration,
    /// The end of the current pause; `None` while the other side takes bytes.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S> ImpatientStream<S> {
    /// Wraps a stream whose other side may pause for `max_pause`.
    pub fn new(stream: S, max_pause: Duration) -> Self {
        Self { stream, max_pause, deadline: None }
    }

    /// The stream itself, whose writes wait for ever.
    pub fn into_inner(self) -> S {
        self.stream
    }

    /// Passes the result of a write on, or fails if the writes wait for too long.
    fn limited(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.deadline = None;
            return written;
        }
        let max_pause = self.max_pause;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(max_pause)));
        ready!(deadline.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its answer")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ImpatientStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ImpatientStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.limited(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.limited(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn writing_fails_only_when_no_byte_is_taken_for_too_long() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut near = ImpatientStream::new(near, Duration::from_millis(500));
        // Slowly, but without a pause that is too long: two seconds in all.
        let slow = tokio::spawn(async move {
            let mut bytes = [0; 16];
            for _ in 0..20 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                far.read_exact(&mut bytes).await.unwrap();
            }
            far
        });
        near.write_all(&[1; 20 * 16]).await.unwrap();
        let _far = slow.await.unwrap();
        // Now the other side reads nothing.
        let error = near.write_all(&[1; 100]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
