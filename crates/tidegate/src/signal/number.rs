//! Signals by number and by name.

use std::fmt;

/// A signal of the system, by its number (signal(7)).
///
/// Signals are ordered by number. Methods that send a signal take one as they take a number.
///
/// ```
/// use tidegate::Signal;
///
/// assert_eq!(Signal::SIGTERM.to_string(), "SIGTERM");
/// assert_eq!(Signal::SIGTERM.raw(), 15);
/// assert_eq!(Signal::from_raw(2), Signal::SIGINT);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(i32);

macro_rules! signals {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// # Signals by name
        impl Signal {
            $($(#[$doc])* pub const $name: Self = Self(libc::$name);)*

            fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

signals! {
    /// The terminal has gone. Servers read their configuration again.
    SIGHUP,
    /// Ctrl-C at the terminal.
    SIGINT,
    /// Ctrl-\ at the terminal.
    SIGQUIT,
    /// The processor has met an instruction that it does not know. No handler may have it.
    SIGILL,
    /// A debugger's breakpoint.
    SIGTRAP,
    /// The program has ended itself by abort(3).
    SIGABRT,
    /// A page of memory could not be read. No handler may have it.
    SIGBUS,
    /// A calculation had no result. No handler may have it.
    SIGFPE,
    /// Ends the process at once. No handler may have it.
    SIGKILL,
    /// For the program's own use.
    SIGUSR1,
    /// An address was not the program's. No handler may have it.
    SIGSEGV,
    /// For the program's own use.
    SIGUSR2,
    /// Nobody reads a pipe or socket any more. Rust programs ignore it, and their writes fail in its place.
    SIGPIPE,
    /// A timer of alarm(2) is over.
    SIGALRM,
    /// Asks the program to end; the signal of kill(1) and of service managers.
    SIGTERM,
    /// A child process has ended, stopped or gone on.
    SIGCHLD,
    /// A stopped process goes on.
    SIGCONT,
    /// Stops the process. No handler may have it.
    SIGSTOP,
    /// Ctrl-Z at the terminal.
    SIGTSTP,
    /// A process in the background has read from the terminal.
    SIGTTIN,
    /// A process in the background has written to the terminal.
    SIGTTOU,
    /// Urgent data has arrived at a socket.
    SIGURG,
    /// The limit of processor time was reached (setrlimit(2)).
    SIGXCPU,
    /// The limit of the size of a file was reached (setrlimit(2)).
    SIGXFSZ,
    /// A timer of setitimer(2) that counts the program's own processor time is over.
    SIGVTALRM,
    /// A timer of setitimer(2) that counts all processor time is over.
    SIGPROF,
    /// The terminal has another size.
    SIGWINCH,
    /// A descriptor has become ready (fcntl(2)).
    SIGIO,
    /// A system call was refused (seccomp(2)).
    SIGSYS,
}

impl Signal {
    /// Returns the signal of a number, whether the system has it or not.
    pub const fn from_raw(number: i32) -> Self {
        Self(number)
    }

    /// Returns the number.
    pub const fn raw(self) -> i32 {
        self.0
    }

    /// Returns why no handler may have it, if so.
    pub(crate) fn refusal(self) -> Option<&'static str> {
        match self {
            Self::SIGKILL | Self::SIGSTOP => Some("the system lets no program catch it"),
            Self::SIGILL | Self::SIGFPE | Self::SIGSEGV | Self::SIGBUS => {
                Some("it reports a fault of the code that runs, which would be run again at once")
            }
            _ => None,
        }
    }
}

impl From<Signal> for i32 {
    fn from(signal: Signal) -> Self {
        signal.0
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "signal {}", self.0),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_prints_its_name_and_one_without_a_name_its_number() {
        assert_eq!(Signal::SIGHUP.to_string(), "SIGHUP");
        assert_eq!(format!("{:?}", Signal::from_raw(libc::SIGINT)), "SIGINT");
        assert_eq!(Signal::from_raw(300).to_string(), "signal 300");
        assert_eq!(i32::from(Signal::SIGTERM), libc::SIGTERM);
    }

    #[test]
    fn signals_are_in_the_order_of_their_numbers() {
        assert!(Signal::SIGHUP < Signal::SIGINT && Signal::SIGINT < Signal::SIGTERM);
    }
}
