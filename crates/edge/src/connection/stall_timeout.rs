//! A stream with two time-outs: the first bytes must arrive in time, and the peer must read what is written
//! to it. hyper's time-outs begin only when the HTTP version is known, and none of them bounds writing.
//! Without a bound, a client that requests large answers and reads none would hold their memory forever.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// The length of the HTTP/2 connection preface in bytes. After this many bytes the HTTP version is known.
const PREFACE_BYTES: usize = 24;
/// Vectored writes up to this many bytes are copied into one buffer first.
const WRITE_BUFFER_BYTES_MAX: usize = 2 << 10;

/// A stream that fails with `TimedOut` if its first bytes are late, or if a write makes no progress for too
/// long.
pub(crate) struct StallTimeout<S> {
    inner: S,
    bytes_read: usize,
    preface_timer: Option<Pin<Box<Sleep>>>,
    stall_max: Duration,
    /// Set while a write is pending.
    stall_timer: Option<Pin<Box<Sleep>>>,
    /// The buffer for small vectored writes.
    write_buffer: Vec<u8>,
}

impl<S> StallTimeout<S> {
    /// Allows `preface_max` for the first [`PREFACE_BYTES`] bytes, and `stall_max` for each write without progress.
    pub(crate) fn new(inner: S, preface_max: Duration, stall_max: Duration) -> Self {
        Self {
            inner,
            bytes_read: 0,
            preface_timer: Some(Box::pin(tokio::time::sleep(preface_max))),
            stall_max,
            stall_timer: None,
            write_buffer: Vec::new(),
        }
    }

    /// Fails a pending write once it has made no progress for `stall_max`.
    fn check_stall<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stall_timer = None;
            return written;
        }
        let stall_max = self.stall_max;
        let stall_timer = self.stall_timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(stall_max)));
        match stall_timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StallTimeout<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if let Some(preface_timer) = &mut self.preface_timer {
            if read.is_pending() && preface_timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.bytes_read += buf.filled().len() - before;
            if self.bytes_read >= PREFACE_BYTES {
                self.preface_timer = None;
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StallTimeout<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.check_stall(written, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let total: usize = bufs.iter().map(|buf| buf.len()).sum();
        let written = if total <= WRITE_BUFFER_BYTES_MAX {
            // For small data, a copy and one plain write cost less than a vectored write.
            this.write_buffer.clear();
            bufs.iter().for_each(|buf| this.write_buffer.extend_from_slice(buf));
            Pin::new(&mut this.inner).poll_write(cx, &this.write_buffer)
        } else {
            Pin::new(&mut this.inner).poll_write_vectored(cx, bufs)
        };
        this.check_stall(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const FIRST: Duration = Duration::from_secs(10);
    const STALL: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_given_up() {
        let (near, _far) = tokio::io::duplex(16);
        let mut stream = StallTimeout::new(near, FIRST, STALL);
        let begun = tokio::time::Instant::now();
        let error = stream.write_all(&[0; 17]).await.unwrap_err();
        assert_eq!((error.kind(), begun.elapsed()), (io::ErrorKind::TimedOut, STALL));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_a_little_at_a_time_is_served() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut stream = StallTimeout::new(near, FIRST, STALL);
        let writing = tokio::spawn(async move { stream.write_all(&[0; 64]).await });
        for _ in 0..4 {
            tokio::time::sleep(STALL - Duration::from_secs(1)).await;
            far.read_exact(&mut [0; 16]).await.unwrap();
        }
        writing.await.unwrap().unwrap();
    }
}
