//! A stream in memory: reads bring what was put in, writes are taken and dropped.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One stream; clones are the same one, so that it can be reached when a peer has it inside.
#[derive(Clone, Default)]
pub struct Memory(Rc<RefCell<Content>>);

#[derive(Default)]
struct Content {
    arrived: Vec<u8>,
    /// How much of it was read.
    position: usize,
    written_bytes: usize,
}

impl Memory {
    /// Puts in what the next reads bring; what was there must have been read.
    pub fn arrive(&mut self, input: &mut Vec<u8>) {
        let mut content = self.0.borrow_mut();
        assert_eq!(content.position, content.arrived.len(), "all of the last input was read");
        std::mem::swap(&mut content.arrived, input);
        content.position = 0;
    }

    /// How many bytes were written since this was asked.
    pub fn take_written_bytes(&mut self) -> usize {
        std::mem::take(&mut self.0.borrow_mut().written_bytes)
    }
}

impl Read for Memory {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Content { arrived, position, .. } = &mut *self.0.borrow_mut();
        let bytes = Read::read(&mut &arrived[*position..], buffer)?;
        *position += bytes;
        // More may come: nothing is not the end.
        if bytes == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(bytes) }
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().written_bytes += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Memory {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Content { arrived, position, .. } = &mut *self.0.borrow_mut();
        let rest = &arrived[*position..];
        if rest.is_empty() {
            return Poll::Pending;
        }
        let bytes = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..bytes]);
        *position += bytes;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Memory {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(self.write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = slices.iter().map(|slice| slice.len()).sum();
        self.0.borrow_mut().written_bytes += bytes;
        Poll::Ready(Ok(bytes))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
