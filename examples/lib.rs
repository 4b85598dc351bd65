//! Command lines, the logger and exit codes of all examples, which are the files beside this one.

use lexopt::{Arg, Error, Parser, ValueExt};
use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::{ExitCode, Termination};
use std::str::FromStr;
use tidegate::Address;

/// The option for the address of a server, and its values.
pub const LISTEN: (&str, &str) = ("listen", "127.0.0.1:8888|unix:/path");

/// The options for the certificate of a server and its private key, each in a PEM file.
pub const CERT: (&str, &str) = ("cert", "FILE");
/// See [`CERT`].
pub const KEY: (&str, &str) = ("key", "FILE");

/// Runs an example and returns its exit code: 1 after an error, 2 when the arguments are wrong.
///
/// Either error is one line on stderr. The log shows warnings unless `RUST_LOG` says otherwise.
pub fn exit_code<T: Termination>(run: impl FnOnce() -> tidegate::Result<T>) -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let error = match run() {
        Ok(value) => return value.report(),
        Err(error) => error,
    };
    // The loop refuses an address of a wrong form as `InvalidInput`.
    let is_wrong_address = error
        .downcast_ref()
        .is_some_and(|error: &io::Error| error.kind() == io::ErrorKind::InvalidInput);
    if is_wrong_address || error.is::<Error>() {
        complain(format_args!("{error}; --help shows the usage"));
        return ExitCode::from(2);
    }
    complain(format_args!("{error}"));
    ExitCode::FAILURE
}

/// Prints a line on stdout, as `println!` does, but a failure is one line on stderr and exit code 1.
///
/// `println!` panics when the other end of a pipe is closed or a device is full.
#[macro_export]
macro_rules! say {
    ($($argument:tt)*) => {
        $crate::print_line(format_args!($($argument)*))
    };
}

/// Does the work of [`say!`].
pub fn print_line(line: fmt::Arguments<'_>) {
    let mut out = io::stdout().lock();
    if let Err(error) = writeln!(out, "{line}").and_then(|()| out.flush()) {
        complain(format_args!("cannot write to stdout: {error}"));
        std::process::exit(1);
    }
}

/// Prints one line on stderr. Nothing is left to do when that fails.
fn complain(error: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{}: {error}", program());
}

/// Returns the value of `--listen`, or `default`, when this is the only option.
pub fn listen_from_args(default: &str) -> Result<String, Error> {
    Ok(Args::from_env(&[LISTEN])?.listen(default))
}

/// Prints where a server listens, a line for each address.
pub fn print_addresses(addresses: &[Address]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for address in addresses {
        writeln!(out, "listening on {address}")?;
    }
    out.flush()
}

/// The options of a command line. Each has a value.
#[derive(Debug)]
pub struct Args(BTreeMap<String, String>);

impl Args {
    /// Reads the command line of the program, with these options and descriptions of their values.
    ///
    /// `--help` prints the usage and exits.
    pub fn from_env(options: &[(&str, &str)]) -> Result<Self, Error> {
        let mut given = BTreeMap::new();
        let mut parser = Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("help") | Arg::Short('h') => {
                    print_usage(options);
                    std::process::exit(0);
                }
                Arg::Long(name) if options.iter().any(|option| option.0 == name) => {
                    let name = name.to_owned();
                    given.insert(name, parser.value()?.string()?);
                }
                _ => return Err(argument.unexpected()),
            }
        }
        Ok(Self(given))
    }

    /// Returns the value of `--listen`, or `default`.
    pub fn listen(&self, default: &str) -> String {
        self.get("listen").unwrap_or(default).to_owned()
    }

    /// Returns the value of an option.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Returns the value of an option that must be there.
    pub fn required(&self, name: &str) -> Result<&str, Error> {
        self.get(name)
            .ok_or_else(|| Error::from(format!("--{name} is missing")))
    }

    /// Returns the value of an option that has one of these, or the first of them.
    pub fn choice<'c>(&self, name: &str, choices: &[&'c str]) -> Result<&'c str, Error> {
        let value = self.get(name).or(choices.first().copied());
        let found = choices.iter().find(|choice| Some(**choice) == value);
        found.copied().ok_or_else(|| {
            let choices = choices.join(" or ");
            Error::from(format!("--{name} {:?}: {choices}", value.unwrap_or("")))
        })
    }

    /// Returns the value of an option as a number in `range`, or `default`.
    pub fn number<T: FromStr + PartialOrd + Display>(
        &self,
        name: &str,
        range: RangeInclusive<T>,
        default: T,
    ) -> Result<T, Error> {
        let Some(value) = self.get(name) else {
            return Ok(default);
        };
        let number = value.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            Error::from(format!(
                "--{name} {value:?} is not a number from {least} to {most}"
            ))
        })
    }
}

fn print_usage(options: &[(&str, &str)]) {
    let option = |(name, value): &(&str, &str)| format!(" [--{name} {value}]");
    let options: String = options.iter().map(option).collect();
    say!("usage: {}{options}", program());
}

fn program() -> String {
    let path = std::env::args().next().unwrap_or_default();
    let name = Path::new(&path).file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
