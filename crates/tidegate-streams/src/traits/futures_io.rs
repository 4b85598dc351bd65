use super::{HasReader, HasWriter, impl_write};
use crate::{Connection, StreamReader, StreamWriter};
use futures_io::{AsyncBufRead, AsyncRead, AsyncWrite};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

macro_rules! impl_buf_read {
    ($($half:ty),+) => {$(
        impl AsyncRead for $half {
            fn poll_read(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                buffer: &mut [u8],
            ) -> Poll<io::Result<usize>> {
                self.reader().poll_read(context, buffer).map_err(Into::into)
            }
        }

        impl AsyncBufRead for $half {
            fn poll_fill_buf(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
            ) -> Poll<io::Result<&[u8]>> {
                self.reader().poll_fill(context).map_err(Into::into)
            }

            fn consume(self: Pin<&mut Self>, len: usize) {
                self.reader().consume(len);
            }
        }
    )+};
}

impl_buf_read!(StreamReader, Connection);
impl_write!(AsyncWrite, poll_close);
