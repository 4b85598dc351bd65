//! The steps of a program, and how each is carried out.

use super::Program;
use crate::network::{Input, Network, Pid};
use std::cell::RefCell;
use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::rc::Rc;
use std::time::Duration;

/// Maximum number of bytes that a program reads or copies in one step.
const PIECE: usize = 4096;

/// Makes the steps of one run, of its arguments.
pub(crate) type Make = Rc<RefCell<dyn FnMut(&[String]) -> Program>>;

/// Makes a reply of a line.
pub(crate) type MakeReply = Box<dyn FnMut(&[u8]) -> Vec<u8>>;

/// A standard stream, by its descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdin,
    Stdout,
    Stderr,
}

/// A step that is to be done, or the rest of one.
pub(crate) enum Step {
    Start(Make, Vec<String>),
    Write(Stream, Vec<u8>),
    /// Discards this number of bytes.
    Read(usize),
    ReadLine,
    ReadToEnd,
    Copy,
    /// The line so far, and what makes a reply of it.
    Reply(Vec<u8>, MakeReply),
    Call(Box<dyn FnOnce(&Network)>),
    Wait(Duration),
    Hang,
    Close(Stream),
    /// On a signal: other steps, or nothing.
    Trap(i32, Option<Program>),
    Fork(Program),
    Exit(u8),
    Raise(i32),
}

/// The thing that a process waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    /// Bytes, or room for some.
    For(Stream),
    Until(Duration),
    ForSignal,
}

/// The result of a step.
pub(crate) struct Ran {
    /// The steps that come before the others.
    pub(crate) next: Vec<Step>,
    pub(crate) waits: Option<Waits>,
}

impl Ran {
    fn done() -> Self {
        Self::then([])
    }

    fn then(next: impl Into<Vec<Step>>) -> Self {
        Self {
            next: next.into(),
            waits: None,
        }
    }

    fn waits(waits: Waits, next: impl Into<Vec<Step>>) -> Self {
        Self {
            next: next.into(),
            waits: Some(waits),
        }
    }

    fn wait_for_input(step: Step) -> Self {
        Self::waits(Waits::For(Stream::Stdin), [step])
    }
}

impl Step {
    /// Does it, or a part of it. Nothing is borrowed meanwhile, for some are code of the user.
    pub(crate) fn run(self, network: &Network, pid: Pid) -> Ran {
        let read = |most| network.with(|state| state.process_read(pid, most));
        match self {
            Self::Start(make, args) => {
                let program = make.borrow_mut()(&args);
                Ran::then(program.steps)
            }
            // As on Linux it does nothing, also when nobody reads.
            Self::Write(_, data) if data.is_empty() => Ran::done(),
            Self::Write(stream, mut data) => {
                let taken = network.with(|state| state.process_write(pid, stream, &data));
                data.drain(..taken);
                match (data.is_empty(), taken) {
                    (true, _) => Ran::done(),
                    (false, 0) => Ran::waits(Waits::For(stream), [Self::Write(stream, data)]),
                    (false, _) => Ran::then([Self::Write(stream, data)]),
                }
            }
            Self::Read(0) => Ran::done(),
            Self::Read(left) => match read(left) {
                Input::Bytes(bytes) => Ran::then([Self::Read(left - bytes.len())]),
                Input::End => Ran::done(),
                Input::Nothing => Ran::wait_for_input(Self::Read(left)),
            },
            Self::ReadLine => match read_line(network, pid) {
                Input::Bytes(bytes) if bytes.ends_with(b"\n") => Ran::done(),
                Input::Bytes(_) => Ran::then([Self::ReadLine]),
                Input::End => Ran::done(),
                Input::Nothing => Ran::wait_for_input(Self::ReadLine),
            },
            Self::ReadToEnd => match read(PIECE) {
                Input::Bytes(_) => Ran::then([Self::ReadToEnd]),
                Input::End => Ran::done(),
                Input::Nothing => Ran::wait_for_input(Self::ReadToEnd),
            },
            Self::Copy => match read(PIECE) {
                Input::Bytes(bytes) => Ran::then([Self::Write(Stream::Stdout, bytes), Self::Copy]),
                Input::End => Ran::done(),
                Input::Nothing => Ran::wait_for_input(Self::Copy),
            },
            Self::Reply(mut line, mut reply) => match read_line(network, pid) {
                Input::Bytes(bytes) => {
                    line.extend(bytes);
                    if !line.ends_with(b"\n") {
                        return Ran::then([Self::Reply(line, reply)]);
                    }
                    let written = Self::Write(Stream::Stdout, reply(&line));
                    Ran::then([written, Self::Reply(Vec::new(), reply)])
                }
                Input::End if line.is_empty() => Ran::done(),
                // The last line has no end.
                Input::End => Ran::then([Self::Write(Stream::Stdout, reply(&line))]),
                Input::Nothing => Ran::wait_for_input(Self::Reply(line, reply)),
            },
            Self::Call(call) => {
                call(network);
                Ran::done()
            }
            Self::Wait(time) => {
                Ran::waits(Waits::Until(network.elapsed().saturating_add(time)), [])
            }
            Self::Hang => Ran::waits(Waits::ForSignal, [Self::Hang]),
            Self::Close(stream) => {
                network.with(|state| state.close_stream_of(pid, stream));
                Ran::done()
            }
            Self::Trap(signal, acts) => {
                let before = network.with(|state| state.trap(pid, signal, acts));
                drop(before);
                Ran::done()
            }
            Self::Fork(program) => {
                network.with(|state| state.fork(pid, program));
                Ran::done()
            }
            Self::Exit(code) => {
                let status = ExitStatus::from_raw(i32::from(code) << 8);
                network.with(|state| state.end_process(pid, status));
                Ran::done()
            }
            Self::Raise(signal) => {
                // Refused for one that no process can get.
                let _ = network.with(|state| state.signal(pid, signal));
                Ran::done()
            }
        }
    }
}

/// Reads no byte behind the end of the line.
fn read_line(network: &Network, pid: Pid) -> Input {
    network.with(|state| {
        let most = state.line_of(pid).unwrap_or(PIECE);
        state.process_read(pid, most)
    })
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(_, args) => f.debug_tuple("Start").field(args).finish_non_exhaustive(),
            Self::Write(stream, data) => {
                let data = data.escape_ascii().to_string();
                f.debug_tuple("Write").field(stream).field(&data).finish()
            }
            Self::Read(len) => f.debug_tuple("Read").field(len).finish(),
            Self::ReadLine => f.write_str("ReadLine"),
            Self::ReadToEnd => f.write_str("ReadToEnd"),
            Self::Copy => f.write_str("Copy"),
            Self::Reply(..) => f.write_str("Reply"),
            Self::Call(_) => f.write_str("Call"),
            Self::Wait(time) => f.debug_tuple("Wait").field(time).finish(),
            Self::Hang => f.write_str("Hang"),
            Self::Close(stream) => f.debug_tuple("Close").field(stream).finish(),
            Self::Trap(signal, acts) => f.debug_tuple("Trap").field(signal).field(acts).finish(),
            Self::Fork(program) => f.debug_tuple("Fork").field(program).finish(),
            Self::Exit(code) => f.debug_tuple("Exit").field(code).finish(),
            Self::Raise(signal) => f.debug_tuple("Raise").field(signal).finish(),
        }
    }
}
