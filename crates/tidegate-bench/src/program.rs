//! The command line and the exit code of every program here.

use pico_args::Arguments;
use serde::de::value::{Error as NameError, StrDeserializer};
use serde::de::{Deserialize, IntoDeserializer};
use std::env;
use std::process::ExitCode;

/// An error of any kind.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The result of a step of a program.
pub type Result<T> = std::result::Result<T, Error>;

/// Runs a program: reads its command line with `parse`, then calls `run`.
///
/// `--help` prints the usage. The exit code is 2 when the command line is wrong and 1 when `run`
/// fails; an error goes to standard error.
pub fn main<A>(
    usage: &str,
    parse: impl FnOnce(&mut Arguments) -> Result<A>,
    run: impl FnOnce(&A) -> Result<ExitCode>,
) -> ExitCode {
    let mut words = Arguments::from_env();
    if words.contains(["-h", "--help"]) {
        println!("{usage}");
        return ExitCode::SUCCESS;
    }
    let (error, code) = match read(words, parse) {
        Err(error) => (error, 2),
        Ok(arguments) => match run(&arguments) {
            Ok(code) => return code,
            Err(error) => (error, 1),
        },
    };
    let program = env::args().next().unwrap_or_default();
    let name = program.rsplit('/').next().unwrap_or_default();
    eprintln!("{name}: {error}");
    ExitCode::from(code)
}

/// Reads a command line with `parse`, which takes out the words that it knows.
///
/// # Errors
///
/// Those of `parse`, and a word that is left.
pub fn read<A>(mut words: Arguments, parse: impl FnOnce(&mut Arguments) -> Result<A>) -> Result<A> {
    let arguments = parse(&mut words)?;
    match words.finish().first() {
        Some(word) => Err(format!("unexpected argument: {}", word.display()).into()),
        None => Ok(arguments),
    }
}

/// Returns the value that has this name in its type's derived `Deserialize`.
///
/// # Errors
///
/// An unknown name; the error lists the known ones.
pub fn named<T: for<'a> Deserialize<'a>>(name: &str) -> std::result::Result<T, NameError> {
    let name: StrDeserializer<'_, NameError> = name.into_deserializer();
    T::deserialize(name)
}
