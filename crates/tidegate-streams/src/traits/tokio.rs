use super::{HasReader, HasWriter, impl_read, impl_write};
use crate::{Connection, StreamReader, StreamWriter};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

impl_read!(AsyncRead, &mut ReadBuf<'_>);
impl_write!(AsyncWrite, poll_shutdown, is_write_vectored);
