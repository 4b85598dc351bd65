//! Why a program could not be started.

use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, ErrorKind};
use std::process::Command;

/// The error of [`Command::spawn`], with the program and advice. It is the source.
#[derive(Debug)]
struct StartError {
    program: OsString,
    error: io::Error,
    advice: &'static str,
}

/// Adds advice to an error of the system that the program's name or file has caused. The kind stays. Others are
/// returned as they are, with their number, and so are those that another world has explained.
pub(super) fn explained(command: &Command, error: io::Error) -> io::Error {
    if error.raw_os_error().is_none() {
        return error;
    }
    let advice = match error.kind() {
        ErrorKind::NotFound => {
            "give a path or a name that PATH has, and a folder (current_dir) and an interpreter (#!) that exist"
        }
        ErrorKind::PermissionDenied => {
            "it has to be a file, and this user needs the right to execute it (chmod +x)"
        }
        _ => return error,
    };
    let program = command.get_program().to_owned();
    io::Error::new(
        error.kind(),
        StartError {
            program,
            error,
            advice,
        },
    )
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            program,
            error,
            advice,
        } = self;
        write!(f, "cannot start {program:?}: {error}; {advice}")
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}
